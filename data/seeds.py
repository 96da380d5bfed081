"""What a seed may be, for every generator that one seeds."""

from .errors import PlatewiseError


def require_seed(seed: int) -> None:
    """Check a seed.

    Raises:
        PlatewiseError: It is negative, or more than NumPy and torch both take.
    """
    if seed < 0:
        raise PlatewiseError(f"Expected a seed of at least 0, got {seed}. Choose, say, 0.")
    if seed >= 2**63:
        raise PlatewiseError(f"Expected a seed below 2**63, got {seed}. Choose, say, 0.")
