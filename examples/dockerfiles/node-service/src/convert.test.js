'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { convert } = require('./convert');

test('convert', () => {
  assert.strictEqual(convert(100, 'f'), 212);
  assert.strictEqual(convert(32, 'c'), 0);
  assert.throws(() => convert(NaN, 'c'), RangeError);
});
