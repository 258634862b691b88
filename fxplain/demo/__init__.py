"""A small trained two-modality model, its data, and what ``fxplain demo`` explains."""
