"""A web service of the usual kind."""

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello from Python!\n"


@app.get("/add/<int:a>/<int:b>")
def add(a, b):
    return jsonify(sum=a + b)
