"""Why an entry is not right, as far as it is known: said in the page, and expected by the tests."""

__all__ = ["REASONS"]

REASONS: dict[str, str] = {
    "clip-pool": "the mean of the patches, a query among them, is called a modality of its own",
    "cross-encoder": "ids that are joined before they are embedded are all called the first's",
    "ensemble": "an input that is embedded twice is two modalities",
    "factorised-video": "a class token among class tokens of frames is a modality of its own",
    "pointer-network": "a mean that is added to every token is missing from the readout's name",
    "slot-attention": "one step of a recurrence has no rule, as the warning says",
    "stable-diffusion-unet": "a group norm's statistics are of all positions, and no rule carries that",
    "vit-distilled": "the sum of two heads of two tokens is said to be read from one of them",
}
