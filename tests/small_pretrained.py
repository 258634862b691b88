"""Small pretrained folders for every task: models made from configs, tokenizers and processors too.

Nothing is downloaded. Weights are seeded; what the models answer is of no matter.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

LINES = ["the movie was great", "Ada Lovelace lived in London", "nobody was watching it again"] * 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    *SPECIAL, "the", "movie", "was", "great", "bad", "watch", "##ing", "ada", "love", "##lace",
    "lived", "in", "london", "who", "where", "?", "a", "cat", "dog",
]  # fmt: skip
ENTITIES = {0: "O", 1: "PER", 2: "LOC"}
SPEECH = {0: "NOUN", 1: "VERB", 2: "DET"}
OBJECTS = {0: "cat", 1: "dog", 2: "bird"}
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZE |= {"intermediate_size": 16}
SEEN = {**SIZE, "image_size": 16, "patch_size": 4}


# ---- tokenizers ---------------------------------------------------------------------------------


def word_pieces(**options) -> hf.PreTrainedTokenizerFast:
    """BERT's kind: pieces that continue a word begin with ##."""
    made = Tokenizer(models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=32,
        **{"model_input_names": ["input_ids", "attention_mask"], **names, **options},
    )


def byte_pairs() -> hf.PreTrainedTokenizerFast:
    """GPT-2's kind: pieces that begin a word bear a mark for the space before."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        LINES,
        trainers.BpeTrainer(
            vocab_size=290,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    ends = {f"{name}_token": "<|end|>" for name in ("bos", "eos")}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **ends)


def one_stretch() -> hf.PreTrainedTokenizerFast:
    """Llama's kind: to the tokenizer the whole text is one word."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    made.train_from_iterator(
        [word for line in LINES for word in line.split()],
        trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False),
    )
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special, strict=True))
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def unigrams() -> hf.PreTrainedTokenizerFast:
    """T5's kind: SentencePiece."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        LINES,
        trainers.UnigramTrainer(
            vocab_size=40, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    names = dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=True))
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **names)


# ---- models -------------------------------------------------------------------------------------


def bert(model: str, **options):
    config = hf.BertConfig(vocab_size=len(PIECES), max_position_embeddings=32, **SIZE, **options)
    return getattr(hf, f"BertFor{model}")(config), word_pieces()


def labelled(labels: dict[int, str]) -> dict[str, dict]:
    return {"id2label": labels, "label2id": {label: i for i, label in labels.items()}}


def gpt2():
    tokenizer = byte_pairs()
    config = hf.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return hf.GPT2LMHeadModel(config), tokenizer


def llama():
    tokenizer = one_stretch()
    config = hf.LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZE)
    return hf.LlamaForCausalLM(config), tokenizer


def t5():
    tokenizer = unigrams()
    config = hf.T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    return hf.T5ForConditionalGeneration(config), tokenizer


def bart():
    config = hf.BartConfig(
        vocab_size=len(PIECES), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=32, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
    )  # fmt: skip
    return hf.BartForConditionalGeneration(config), word_pieces()


def square_images(kind):
    return kind(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def vit():
    config = hf.ViTConfig(**SEEN, **labelled(OBJECTS))
    return hf.ViTForImageClassification(config), square_images(hf.ViTImageProcessorPil)


def videomae():
    config = hf.VideoMAEConfig(
        **{**SEEN, "image_size": 16}, num_frames=4, tubelet_size=2, **labelled(OBJECTS)
    )
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return hf.VideoMAEForVideoClassification(config), hf.VideoMAEImageProcessorPil(**size)


def clip():
    text = {**SIZE, "vocab_size": len(PIECES), "eos_token_id": 3, "bos_token_id": 2}
    config = hf.CLIPConfig(
        text_config={**text, "max_position_embeddings": 16}, vision_config=SEEN, projection_dim=8
    )
    images = hf.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    return hf.CLIPModel(config), hf.CLIPProcessor(images, word_pieces())


def siglip():
    text = {**SIZE, "vocab_size": len(PIECES), "max_position_embeddings": 8, "projection_size": 16}
    config = hf.SiglipConfig(text_config=text, vision_config=SEEN)
    tokenizer = word_pieces(model_input_names=["input_ids"])
    tokenizer.model_max_length = 8
    images = square_images(hf.SiglipImageProcessorPil)
    return hf.SiglipModel(config), hf.SiglipProcessor(images, tokenizer)


def detr():
    backbone = {
        "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
        "out_features": ["stage2"], "layer_type": "basic",
    }  # fmt: skip
    config = hf.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False,
        backbone=None, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5,
        **labelled(OBJECTS),
    )  # fmt: skip
    size = {"shortest_edge": 32, "longest_edge": 64}
    return hf.DetrForObjectDetection(config), hf.DetrImageProcessorPil(size=size)


def sam():
    """Masks of what lies at points of an image."""
    size = {"image_size": 64, "patch_size": 8}
    config = hf.SamConfig(
        vision_config={
            **size, "hidden_size": 16, "output_channels": 8, "num_hidden_layers": 2, "mlp_dim": 16,
            "num_attention_heads": 2, "global_attn_indexes": [1], "window_size": 4, "num_pos_feats": 4,
            "initializer_range": 0.02,  # by default so small that no mask depends on the image
        },
        prompt_encoder_config={**size, "hidden_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 8, "mlp_dim": 8, "num_attention_heads": 2, "num_hidden_layers": 2,
            "iou_head_hidden_dim": 8,
        },
    )  # fmt: skip
    images = hf.SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )  # fmt: skip
    return hf.SamModel(config), hf.SamProcessor(images)


def embedder():
    """A model without a head: it makes embeddings."""
    return hf.BertModel(hf.BertConfig(vocab_size=len(PIECES), **SIZE)), word_pieces()


def vilt():
    config = hf.ViltConfig(
        vocab_size=len(PIECES), max_position_embeddings=32, **{**SEEN, "image_size": 32},
        **labelled({0: "yes", 1: "no", 2: "two"}), num_images=-1,
    )  # fmt: skip
    images = hf.ViltImageProcessorPil(size={"shortest_edge": 16}, size_divisor=4)
    return hf.ViltForQuestionAnswering(config), hf.ViltProcessor(images, word_pieces())


def blip(model: str):
    text = {
        **SIZE, "vocab_size": len(PIECES), "max_position_embeddings": 32, "bos_token_id": 2,
        "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3, "encoder_hidden_size": 16,
    }  # fmt: skip
    config = hf.BlipConfig(text_config=text, vision_config=SEEN, projection_dim=8)
    images = square_images(hf.BlipImageProcessorPil)
    return getattr(hf, f"BlipFor{model}")(config), hf.BlipProcessor(images, word_pieces())


def captioner():
    """A ViT that a GPT-2 writes about: its processors are saved one by one."""
    tokenizer = byte_pairs()
    encoder = hf.ViTConfig(**SEEN)
    decoder = hf.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32,
        add_cross_attention=True, is_decoder=True,
    )  # fmt: skip
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 0, 0
    images = square_images(hf.ViTImageProcessorPil)
    return hf.VisionEncoderDecoderModel(config=config), tokenizer, images


def llava():
    """Words and patches in one sequence, asked in the form of a chat."""
    tokenizer = one_stretch()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.pad_token = "<unk>"
    config = hf.LlavaConfig(
        vision_config={**SEEN, "model_type": "clip_vision_model"},
        text_config={**SIZE, "model_type": "llama", "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    images = hf.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    template = (
        "{% for message in messages %}{% for part in message.content %}"
        "{% if part.type == 'image' %}<image>{% else %}the {{ part.text }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    processor = hf.LlavaProcessor(
        images, tokenizer, patch_size=4, vision_feature_select_strategy="default",
        chat_template=template, num_additional_image_tokens=1,
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config), processor


def whisper():
    tokenizer = byte_pairs()
    config = hf.WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_mel_bins=8, max_source_positions=50, max_target_positions=16,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    extractor = hf.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    return hf.WhisperForConditionalGeneration(config), tokenizer, extractor


def wav2vec2():
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(letters)}, unk_token="<unk>"))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=made, **names)
    config = hf.Wav2Vec2Config(
        vocab_size=len(letters), num_feat_extract_layers=2, conv_dim=(8, 8), conv_stride=(20, 16),
        conv_kernel=(20, 16), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        pad_token_id=0, **SIZE,
    )  # fmt: skip
    return hf.Wav2Vec2ForCTC(config), tokenizer, hf.Wav2Vec2FeatureExtractor()


MAKERS: dict[str, Callable[[], tuple]] = {
    "classifier": lambda: bert("SequenceClassification", **labelled({0: "bad", 1: "good"})),
    "tagger": lambda: bert("TokenClassification", **labelled(ENTITIES)),
    "reader": lambda: bert("QuestionAnswering"),
    "filler": lambda: bert("MaskedLM"),
    "gpt2": gpt2,
    "llama": llama,
    "t5": t5,
    "bart": bart,
    "vit": vit,
    "videomae": videomae,
    "clip": clip,
    "siglip": siglip,
    "detr": detr,
    "sam": sam,
    "embedder": embedder,
    "reranker": lambda: bert("SequenceClassification", num_labels=1),
    "speech-tagger": lambda: bert("TokenClassification", **labelled(SPEECH)),
    "vilt": vilt,
    "blip": lambda: blip("ConditionalGeneration"),
    "blip-vqa": lambda: blip("QuestionAnswering"),
    "captioner": captioner,
    "llava": llava,
    "whisper": whisper,
    "wav2vec2": wav2vec2,
}


def save(name: str, root: Path) -> Path:
    """The folder of a model, made when it is first asked for."""
    folder = root / name
    if not folder.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, *processors_ = MAKERS[name]()
        with torch.no_grad():
            for parameter in model.parameters():  # sharper than at a usual start
                parameter.mul_(3.0)
        for part in (model, *processors_):
            part.save_pretrained(folder)
    return folder


# ---- inputs -------------------------------------------------------------------------------------


def picture(height: int = 20, width: int = 30, seed: int = 0):
    """(height, width, 3) bytes."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def recording(seconds: float = 0.5, rate: int = 16_000):
    """(samples,) of a tone that rises."""
    time = np.arange(int(seconds * rate)) / rate
    return np.sin(2 * np.pi * (300 + 400 * time) * time).astype(np.float32)
