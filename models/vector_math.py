"""Exponentials and logarithms of rows, compiled for the CPU: of a row that stays in the nearest cache.

torch's are as exact, but each is a pass over memory. Loops here have no branches, so that the compiler makes them
vector instructions; powers of two are put together from, and taken apart into, the bits of a floating-point number.

Source:
    Cody and Waite (1980), Software manual for the elementary functions: reduce the range, then a short series.
"""

from __future__ import annotations

import math

import numpy as np

from ..data.compiled import Array, compiled

LARGEST = 87.0  # e^x is a normal number of float32 for x between -LARGEST and LARGEST
LOG_2 = math.log(2)
LOG_2_HIGH = 0.693359375  # in 9 bits: exact times the exponents that occur, in float32 too
LOG_2_LOW = LOG_2 - LOG_2_HIGH
EXP = tuple(1 / math.factorial(k) for k in range(13, -1, -1))
ARTANH = tuple(1 / (2 * k + 1) for k in range(8, -1, -1))
EXP_SHORT, ARTANH_SHORT = EXP[-8:], ARTANH[-6:]  # of which float32 cannot tell the difference


@compiled
def exp(x: Array, bits: Array, out: Array) -> None:
    """e^x with a relative error of 3e-7 in float32 and 4e-15 in float64; x beyond +-87 is taken as +-87.

    Args:
        x: Numbers (n,).
        bits: Room for n integers as wide as these numbers.
        out: The powers (n,); not x itself.
    """
    real, power = x.dtype.type, bits.view(x.dtype)
    n_bits, bias = (23, 127) if x.itemsize == 4 else (52, 1023)
    for j in range(len(x)):
        y = min(max(x[j], real(-LARGEST)), real(LARGEST))
        k = np.int32(y * real(1 / LOG_2) + (real(0.5) if y > 0 else real(-0.5)))
        out[j] = (y - real(k) * real(LOG_2_HIGH)) - real(k) * real(LOG_2_LOW)
        bits[j] = bits.dtype.type(k + bias) << n_bits
    if x.itemsize == 4:
        for j in range(len(x)):
            p = real(0)
            for c in EXP_SHORT:
                p = p * out[j] + real(c)
            out[j] = p * power[j]
    else:
        for j in range(len(x)):
            p = real(0)
            for c in EXP:
                p = p * out[j] + real(c)
            out[j] = p * power[j]


@compiled
def log1p(x: Array, bits: Array, out: Array) -> None:
    """log(1 + x) for finite x above -1, with a relative error of 3e-7 in float32 and 4e-15 in float64.

    With 1 + x = m 2^k and m between sqrt(1/2) and sqrt(2), it is k log 2 + 2 artanh((m - 1) / (m + 1)).

    Args:
        x: Numbers (n,).
        bits: Room for n integers as wide as these numbers.
        out: The logarithms (n,); not x itself.
    """
    real, integer, m = x.dtype.type, bits.dtype.type, bits.view(x.dtype)
    n_bits, root = (23, 0x3F3504F3) if x.itemsize == 4 else (52, 0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
    for j in range(len(x)):
        m[j] = real(1) + x[j]
    for j in range(len(x)):
        k = (bits[j] - integer(root)) >> n_bits
        bits[j] -= k << n_bits
        out[j] = real(k)
    for j in range(len(x)):
        above = x[j] if out[j] == 0 else m[j] - real(1)  # m - 1 has lost the last digits of a small x
        w = above / (above + real(2))
        p = real(0)
        if x.itemsize == 4:
            for c in ARTANH_SHORT:
                p = p * (w * w) + real(c)
        else:
            for c in ARTANH:
                p = p * (w * w) + real(c)
        out[j] = out[j] * real(LOG_2) + real(2) * w * p
