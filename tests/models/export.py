"""Exports the small models of this folder. Run by hand, once; what it writes is committed.

    export.py OUT

Each is a real architecture of the transformers library, small, with weights from a fixed seed (they have
learnt nothing), and a tokenizer that is trained on the sentences below. Beside the files of an export lies
expected.json: what PyTorch and transformers' own tokenizer or image processor make of a few inputs.

Made with Python 3.11, torch 1.13.0 (Debian 12's python3-torch), transformers 4.40.2, tokenizers 0.19.1,
onnx 1.16.2, numpy 1.24.2 and pillow 9.4.0. Training a tokenizer breaks ties by chance: the folders belong
together as one run wrote them.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SEED = 20261124
OPSET = 15

SENTENCES = [
    "I love this little harbour, the people are kind and the food is wonderful.",
    "What a waste of time: the room was cold, the staff were rude and nothing worked.",
    "It was fine, neither good nor bad; I would perhaps come back in the summer.",
    "The parcel arrived two days late and the screen was broken.",
    "Absolutely brilliant! Best concert I've been to in years, don't miss it.",
    "Das Essen war gut, aber die Bedienung war leider sehr langsam und unfreundlich.",
    "Je suis très déçu par ce film, l'histoire est trop longue et sans intérêt.",
    "¡Qué maravilla! El hotel está muy cerca de la playa y es precioso.",
    "Этот поезд опоздал на два часа, и никто ничего не объяснил.",
    "这家餐厅的菜很好吃，服务也很热情。",
    "この本はとても面白かったです。もう一度読みたい。",
    "الطعام لذيذ والمكان جميل جدا",
    "Ce n'est pas mal… 😀 👍 but could be better 😡",
    "Numbers such as 12, 305 and 9:00 - 18:00 are tokens too.",
]

TEXTS = [
    "I love this harbour!",
    "The staff were rude and the room was cold.",
    "",
    "Das Essen war sehr gut 😀",
    "这家餐厅很好吃",
    "nothing " * 100,
]


def wordpiece() -> Tokenizer:
    """As BERT's, with lower case."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def byte_level() -> Tokenizer:
    """As RoBERTa's: byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-RoBERTa's: a unigram model over words that begin with a low line."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


BERT_TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
ROBERTA_TOKENS = {"unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}


def write(folder: pathlib.Path, model, inputs: dict, outputs: list[str], sequence: bool) -> None:
    """The graph, with free batch (and text length)."""
    free = {0: "batch_size", 1: "sequence_length"} if sequence else {0: "batch_size"}
    axes = {name: free for name in inputs}
    axes |= {name: free if name == "last_hidden_state" else {0: "batch_size"} for name in outputs}
    torch.onnx.export(
        model,
        (inputs,) if sequence else (inputs["pixel_values"],),
        str(folder / "model.onnx"),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=OPSET,
    )


def expected(folder: pathlib.Path, values: list) -> None:
    (folder / "expected.json").write_text(json.dumps(values, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def text_model(out, name, cls, config, tokenizer, tokens, length, outputs, pairs=()) -> pathlib.Path:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = cls(config).eval()
    config.architectures = [cls.__name__]
    config.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **tokens)
    fast.model_input_names = ["input_ids", "attention_mask"]
    if config.model_type == "bert":
        fast.model_input_names.insert(1, "token_type_ids")
    fast.save_pretrained(folder)
    (folder / "special_tokens_map.json").unlink()
    # The exporter gives its names to the inputs in the order of the model's own arguments.
    sample = fast("A first text", "and a second", return_tensors="pt")
    sample = {n: sample[n] for n in ("input_ids", "attention_mask", "token_type_ids") if n in sample}
    write(folder, model, sample, outputs, sequence=True)
    cases = []
    for text, pair in [(t, None) for t in TEXTS] + list(pairs):
        with torch.no_grad():
            encoded = fast(text, pair, return_tensors="pt", truncation=True)
            answer = model(**encoded)[0][0].double().numpy()
        case = {"text": text} | ({"pair": pair} if pair is not None else {})
        kept = answer[0] if outputs[0] == "last_hidden_state" else answer
        cases.append(case | {"tokens": encoded["input_ids"].shape[1], "output": [round(v, 6) for v in kept.tolist()]})
    expected(folder, cases)
    return folder


def texts(out: pathlib.Path) -> None:
    small = {"initializer_range": 0.4}
    words = wordpiece()
    text_model(
        out, "sentiment-distilbert", transformers.DistilBertForSequenceClassification,
        transformers.DistilBertConfig(
            vocab_size=words.get_vocab_size(), dim=24, hidden_dim=32, n_layers=2, n_heads=2,
            max_position_embeddings=64, id2label={0: "NEGATIVE", 1: "POSITIVE"},
            label2id={"NEGATIVE": 0, "POSITIVE": 1}, **small),
        words, BERT_TOKENS, 64, ["logits"])
    labels = ["entailment", "neutral", "contradiction"]
    text_model(
        out, "inference-bert", transformers.BertForSequenceClassification,
        transformers.BertConfig(
            vocab_size=words.get_vocab_size(), hidden_size=24, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=48, id2label=dict(enumerate(labels)),
            label2id={l: i for i, l in enumerate(labels)}, problem_type="single_label_classification", **small),
        words, BERT_TOKENS, 48, ["logits"],
        [("The food is wonderful.", "The food is good."), ("It was cold", "nothing worked " * 40), ("", "")])
    emotions = ["anger", "joy", "sadness", "surprise", "fear", "love"]
    pieces = byte_level()
    text_model(
        out, "emotions-roberta", transformers.RobertaForSequenceClassification,
        transformers.RobertaConfig(
            vocab_size=pieces.get_vocab_size(), hidden_size=24, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1,
            id2label=dict(enumerate(emotions)), label2id={l: i for i, l in enumerate(emotions)},
            problem_type="multi_label_classification", **small),
        pieces, ROBERTA_TOKENS, 64, ["logits"], [("I love it", "so do I")])
    grams = unigram()
    folder = text_model(
        out, "sentences-xlmr", transformers.XLMRobertaModel,
        transformers.XLMRobertaConfig(
            vocab_size=grams.get_vocab_size(), hidden_size=24, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **small),
        grams, ROBERTA_TOKENS, 64, ["last_hidden_state", "pooler_output"])
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in [
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False}),
        ("1_Pooling/config.json", {
            "word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class Whole(torch.nn.Module):
    """All steps of a sentence-transformers model, as a graph of fixed size that takes 32-bit integers."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = self.model(input_ids.long(), attention_mask.long(), position_ids=position_ids.long())[0]
        mask = attention_mask.unsqueeze(-1).float()
        mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return tokens, torch.nn.functional.normalize(mean)


def whole(out: pathlib.Path) -> None:
    folder, rows, length = out / "sentences-whole", 2, 16
    folder.mkdir(parents=True, exist_ok=True)
    words = wordpiece()
    torch.manual_seed(SEED)
    config = transformers.BertConfig(
        vocab_size=words.get_vocab_size(), hidden_size=24, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=32, initializer_range=0.4)
    model = Whole(transformers.BertModel(config)).eval()
    config.architectures = ["BertModel"]
    config.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **BERT_TOKENS)
    fast.save_pretrained(folder)
    (folder / "special_tokens_map.json").unlink()
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ], indent=2) + "\n", encoding="utf-8")
    cases = []
    for text in TEXTS:
        encoded = fast([text] * rows, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids, mask = (encoded[name].int() for name in ("input_ids", "attention_mask"))
        places = torch.arange(length, dtype=torch.int32).repeat(rows, 1) * mask
        with torch.no_grad():
            vector = model(ids, mask, places)[1][0].double().numpy()
        cases.append({"text": text, "tokens": int(mask[0].sum()), "output": [round(v, 6) for v in vector.tolist()]})
    expected(folder, cases)
    torch.onnx.export(
        model, (ids, mask, places), str(folder / "model.onnx"), opset_version=OPSET,
        input_names=["input_ids", "attention_mask", "position_ids"],
        output_names=["token_embeddings", "sentence_embedding"])


def pictures() -> list[tuple[str, Image.Image]]:
    """Small pictures that a formula gives, so that none has to be stored."""
    made = []
    for width, height in [(64, 48), (90, 33), (200, 120), (20, 20)]:
        y, x = np.mgrid[0:height, 0:width]
        channels = [(x * 7 + y * 3) % 256, (x * y) % 251, (x * x + 5 * y) % 256]
        made.append((f"{width}x{height}", Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))))
    return made


def image_model(out, name, cls, config, processor) -> None:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = cls(config)
    # Running statistics of batch normalisation are learnt too: a few passes in training mode.
    with torch.no_grad():
        for _ in range(30):
            model(processor([p for _, p in pictures()], return_tensors="pt")["pixel_values"])
    model.eval()
    config.architectures = [cls.__name__]
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    sample = processor(pictures()[0][1], return_tensors="pt")
    write(folder, model, {"pixel_values": sample["pixel_values"]}, ["logits"], sequence=False)
    cases = []
    for title, picture in pictures():
        with torch.no_grad():
            pixels = processor(picture, return_tensors="pt")["pixel_values"]
            logits = model(pixels)[0][0].double().numpy()
        cases.append({"picture": title, "output": [round(v, 6) for v in logits.tolist()]})
    expected(folder, cases)


def images(out: pathlib.Path) -> None:
    animals = ["cat", "dog", "horse", "ship", "lorry"]
    labels = {"id2label": dict(enumerate(animals)), "label2id": {l: i for i, l in enumerate(animals)}}
    image_model(
        out, "animals-vit", transformers.ViTForImageClassification,
        transformers.ViTConfig(
            hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=48,
            patch_size=8, initializer_range=0.3, **labels),
        transformers.ViTImageProcessor(size={"height": 48, "width": 48}, resample=2))
    image_model(
        out, "animals-resnet", transformers.ResNetForImageClassification,
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", **labels),
        transformers.ConvNextImageProcessor(
            size={"shortest_edge": 56}, crop_pct=0.875, resample=3,
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]))


if __name__ == "__main__":
    texts(pathlib.Path(sys.argv[1]))
    whole(pathlib.Path(sys.argv[1]))
    images(pathlib.Path(sys.argv[1]))
