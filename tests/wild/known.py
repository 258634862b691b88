"""Why an entry is not right, as far as it is known: said in the page, and expected by the tests."""

__all__ = ["REASONS"]

REASONS: dict[str, str] = {
    "stick-breaking": "weights of shares that later keys left are known by no sum, and refused",
    "stable-diffusion-unet": "a group norm's statistics are of all positions, and no rule carries that",
}
