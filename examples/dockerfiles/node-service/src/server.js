'use strict';

const http = require('node:http');
const { convert } = require('./convert');

const port = Number(process.env.PORT || 3000);

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost');
  if (url.pathname === '/health') return res.end('ok\n');
  try {
    const to = url.pathname.slice(1);
    res.end(`${convert(Number(url.searchParams.get('t')), to)}\n`);
  } catch (err) {
    res.statusCode = 400;
    res.end(`${err.message}\n`);
  }
});

server.listen(port, () => console.log(`listening on :${server.address().port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
