"""Why an entry is not right, as far as it is known: said in the page, and expected by the tests."""

__all__ = ["REASONS"]

REASONS: dict[str, str] = {
    "slot-attention": "one step of a recurrence has no rule, as the warning says",
    "stable-diffusion-unet": "a group norm's statistics are of all positions, and no rule carries that",
}
