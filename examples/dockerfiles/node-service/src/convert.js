'use strict';

// convert turns degrees of one scale into those of the other.
function convert(value, to) {
  if (!Number.isFinite(value)) throw new RangeError('not a number');
  return to === 'f' ? value * 9 / 5 + 32 : (value - 32) * 5 / 9;
}

module.exports = { convert };
