"""The table: what each ATen operation does to tokens.

Each row maps an operation (overloads share one row) to a rule. Operations without a row are
pointwise if their own schema says so; for the rest see `fxplain.tokens.rules.unknown`.
How to add a row: docs/how-to/add-an-op.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from fxplain.tokens import (
    attending,
    concatenating,
    contraction,
    lookups,
    mapping,
    movement,
    normalising,
    norms,
    pointwise,
    reductions,
    resampling,
    rules,
)
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.kinds import Kind

__all__ = ["KINDS", "TABLE", "kind_of", "moves", "operation", "reduces", "rule_for"]

Rule = Callable[[Analysis, fx.Node], Tagged]


def operation(node: fx.Node) -> str:
    """The name of a node's operation without its overload: "aten.view", "getitem"."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    return getattr(target, "__name__", str(target))


def rule_for(node: fx.Node) -> Rule:
    """The rule for a node's operation."""
    name = operation(node)
    rule = TABLE.get(name) or TABLE.get(name.removesuffix("_copy"))
    if rule is not None:
        return rule
    if torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return pointwise.pointwise
    return rules.unknown


def kind_of(node: fx.Node) -> Kind:
    """What a node's operation does to elements."""
    name = operation(node)
    return KINDS.get(name) or KINDS.get(name.removesuffix("_copy"), Kind.OTHER)


def moves(node: fx.Node) -> bool:
    """Whether a node's operation only moves elements, or makes a fresh tensor of no one's."""
    return kind_of(node) in (Kind.MOVES, Kind.ITEM) or rule_for(node) is rules.no_tokens


def reduces(node: fx.Node) -> bool:
    """Whether a node's operation makes one number of many: a sum, a mean, a maximum."""
    return kind_of(node) is Kind.REDUCES


def _rows(rule: Rule, names: str) -> dict[str, Rule]:
    return {name if name[0] == "!" else f"aten.{name}": rule for name in names.split()}


_MOVES: dict[str, Rule] = {
    # the very same operation runs on the tag
    **_rows(
        movement.view_like,
        "transpose permute t slice select unsqueeze squeeze narrow diagonal "
        "unfold movedim moveaxis swapaxes swapdims alias mT mH adjoint numpy_T "
        "linalg_diagonal matrix_H",
    ),
    **_rows(
        movement.view_like,
        "split split_with_sizes chunk unbind tensor_split unsafe_split "
        "unsafe_chunk unsafe_split_with_sizes hsplit vsplit dsplit",
    ),
    **_rows(
        movement.reshape,
        "view reshape _unsafe_view flatten unflatten view_as reshape_as "
        "_reshape_alias ravel atleast_1d atleast_2d atleast_3d",
    ),
    **_rows(movement.expand, "expand expand_as broadcast_to"),
    **_rows(movement.repeat, "repeat tile"),
    **_rows(
        movement.along_axes,
        "roll flip fliplr flipud index_select repeat_interleave rot90 take_along_dim fft_fftshift "
        "fft_ifftshift",
    ),
    **_rows(movement.pad, "pad constant_pad_nd"),
    **_rows(movement.pad_sequence, "pad_sequence"),
    **_rows(
        concatenating.concatenate,
        "cat concat concatenate stack hstack vstack dstack column_stack row_stack",
    ),
    **_rows(movement.gather, "gather"),
    **_rows(movement.index, "index _unsafe_index"),
    **_rows(
        movement.put,
        "index_put index_add index_copy scatter scatter_add slice_scatter "
        "select_scatter masked_scatter scatter_reduce index_fill diagonal_scatter index_reduce",
    ),
    **_rows(
        movement.shuffle,
        "pixel_shuffle pixel_unshuffle im2col channel_shuffle "
        "native_channel_shuffle diag diag_embed diagflat masked_select take "
        "reflection_pad1d reflection_pad2d reflection_pad3d "
        "replication_pad1d replication_pad2d replication_pad3d _pad_circular",
    ),
    **_rows(movement.packed, "_pack_padded_sequence _pad_packed_sequence"),
    **_rows(movement.strided, "as_strided"),
    **_rows(movement.copy, "copy"),
    **_rows(movement.broadcast, "broadcast_tensors"),
}
_FRESH: dict[str, Rule] = {
    **_rows(
        rules.no_tokens,
        "zeros_like ones_like full_like empty_like rand_like randn_like "
        "new_zeros new_ones new_full new_empty zeros ones full empty arange scalar_tensor "
        "fill zero eye linspace logspace randn rand randint_like hann_window "
        "hamming_window new_empty_strided empty_strided empty_permuted _weight_norm "
        "_weight_norm_interface",
    ),
    **_rows(reductions.top, "topk sort"),
}
_REDUCES: dict[str, Rule] = {
    **_rows(
        reductions.reduce,
        "sum mean amax amin max min prod norm linalg_norm linalg_vector_norm logsumexp "
        "special_logsumexp frobenius_norm linalg_matrix_norm "
        "var std var_mean std_mean nansum nanmean median nanmedian aminmax mode "
        "kthvalue",
    ),
}
_OTHERS: dict[str, Rule] = {
    # -- the value keeps its tokens --------------------------------------------------------------
    **_rows(
        rules.keep,
        "dropout alpha_dropout feature_dropout contiguous clone to "
        "detach _to_copy lift_fresh_copy lift_fresh lift type_as positive resolve_conj "
        "resolve_neg _conj conj conj_physical real imag fake_quantize_per_tensor_affine "
        "feature_alpha_dropout",
    ),
    **_rows(norms.normed, "layer_norm rms_norm batch_norm group_norm instance_norm"),
    **_rows(
        norms.normed_first,
        "native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm _fused_rms_norm "
        "_native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_native_batch_norm_legit_functional",
    ),
    **_rows(norms.renormed, "renorm"),
    **_rows(rules.gated, "glu"),
    **_rows(rules.as_real, "view_as_real"),
    **_rows(rules.as_complex, "view_as_complex"),
    **_rows(rules.keep_first, "native_dropout log_sigmoid_forward"),
    **_rows(rules.drawn, "bernoulli normal normal_functional"),
    # -- joins -----------------------------------------------------------------------------------
    **_rows(
        pointwise.pointwise,
        "lerp addcmul addcdiv add sub rsub pow "
        "maximum minimum clamp softplus prelu nan_to_num fmod remainder atan2 "
        "hardswish hardsigmoid hardtanh subtract special_logit "
        "log_sigmoid complex polar floor_divide special_expit special_erf "
        "special_i0 absolute negative arccos arccosh arcsin arcsinh arctan arctan2 "
        "arctanh fix _prelu_kernel",
    ),
    **_rows(rules.crossed, "cross linalg_cross"),
    **_rows(rules.kronecker, "kron"),
    **_rows(pointwise.masked, "where masked_fill"),
    **_rows(rules.triangular, "tril triu"),
    # -- normalisation ---------------------------------------------------------------------------
    **_rows(normalising.softmax, "softmax _softmax _safe_softmax special_softmax"),
    **_rows(normalising.exponential, "exp"),
    **_rows(normalising.logarithm, "log log2 log10 log1p special_log1p"),
    **_rows(normalising.quotient, "mul multiply div divide true_divide"),
    **_rows(rules.keep, "log_softmax _log_softmax special_log_softmax"),
    # -- contractions ----------------------------------------------------------------------------
    **_rows(mapping.linear, "linear _grouped_mm"),
    "transformers.grouped_mm_fallback": mapping.linear,
    **_rows(contraction.product, "matmul linalg_matmul mm bmm mv dot vdot"),
    **_rows(contraction.added_product, "addmm baddbmm"),
    **_rows(contraction.distances, "cdist _cdist_forward _euclidean_dist"),
    **_rows(attending.fused_attention, "scaled_dot_product_attention"),
    **_rows(mapping.convolution, "conv1d conv2d conv3d convolution _convolution _convolution_mode"),
    **_rows(lookups.embedding, "embedding"),
    **_rows(lookups.bag, "embedding_bag _embedding_bag"),
    # -- pooling, resampling and reductions ------------------------------------------------------
    **_rows(
        resampling.pool,
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices",
    ),
    **_rows(
        resampling.adaptive_pool,
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d "
        "_adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    ),
    **_rows(
        resampling.interpolate,
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d "
        "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
        "upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d "
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    ),
    **_rows(
        resampling.transposed_convolution,
        "conv_transpose1d conv_transpose2d conv_transpose3d",
    ),
    **_rows(resampling.fold, "col2im"),
    **_rows(resampling.grid_sample, "grid_sampler grid_sampler_2d grid_sampler_3d"),
    **_rows(resampling.difference, "diff"),
    **_rows(resampling.accumulate, "cumsum cumprod logcumsumexp cummax cummin"),
    **_rows(
        resampling.fourier,
        "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 "
        "fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn _fft_r2c _fft_c2r _fft_c2c",
    ),
    **_rows(resampling.spectrogram, "stft"),
    **_rows(resampling.recurrent, "lstm gru rnn_tanh rnn_relu"),
    **_rows(resampling.cell, "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
    **_rows(contraction.similarity, "cosine_similarity pairwise_distance linalg_vecdot"),
}

TABLE: dict[str, Rule] = {"getitem": rules.item, **_MOVES, **_FRESH, **_REDUCES, **_OTHERS}
KINDS: dict[str, Kind] = {
    "getitem": Kind.ITEM,
    **dict.fromkeys(_MOVES, Kind.MOVES),
    **dict.fromkeys(_FRESH, Kind.FRESH),
    **dict.fromkeys(_REDUCES, Kind.REDUCES),
}
