const express = require('express')

const app = express()
app.get('/', (request, response) => response.send('Hello from Node!\n'))
app.get('/add/:a/:b', ({params}, response) => response.json({sum: Number(params.a) + Number(params.b)}))

const server = app.listen(3000)
process.on('SIGTERM', () => server.close())
