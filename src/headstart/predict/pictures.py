"""What a picture is before anything is spent on it."""

from headstart.data.image import dimensions
from headstart.errors import DataError


def check_pixels(data: bytes, limit: int) -> None:
    """Refuse a picture that is larger than somebody allows, before it is decoded.

    Args:
        data: The encoded file.
        limit: Width times height, at most.

    Raises:
        DataError: It is larger, or no picture.
    """
    width, height = dimensions(data)
    if width * height > limit:
        raise DataError(
            f"too large: {width}x{height} = {width * height:,} pixels, the limit is {limit:,}"
        )
