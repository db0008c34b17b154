"""A service that shortens names."""

from flask import Flask, abort, redirect, request

app = Flask(__name__)
links = {}


@app.get("/health")
def health():
    return "ok\n"


@app.post("/<name>")
def add(name):
    links[name] = request.form["to"]
    return f"{name} leads to {links[name]}\n", 201


@app.get("/<name>")
def follow(name):
    if name not in links:
        abort(404)
    return redirect(links[name])
