import numpy as np
import pytest
import torch

from mopref.llm.rewards import Embedder, shared_embedder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", *"the cat dog sat ran away".split()]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_embeddings_do_not_depend_on_the_batch(bert):
    embedder = Embedder(bert)
    texts = ["the cat sat", "dog", "the dog ran away " * 100, "cat"]
    vectors = embedder.embed(texts, batch_size=2)
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-5)
    assert embedder.embed([]).shape == (0, 16)
    with pytest.raises(ValueError, match="is one string"):
        embedder.embed("the cat")


def test_rows_follow_the_texts_whatever_their_order(bert):
    """The batches depend on the set of texts alone, so the embeddings are the same to the last bit."""
    embedder = Embedder(bert)
    texts = ["the cat sat", "dog", "cat", "the dog ran away", "dog", "sat the cat", "ran"]
    vectors = embedder.embed(texts, batch_size=2)
    np.testing.assert_array_equal(embedder.embed(texts[::-1], batch_size=2), vectors[::-1])
    np.testing.assert_array_equal(vectors[1], vectors[4])


def test_a_folder_is_loaded_once(bert):
    assert shared_embedder(bert) is shared_embedder(str(bert))
    assert Embedder(bert, device="cpu").options() == {"folder": str(bert), "device": "cpu"}


@pytest.mark.parametrize(
    ("folder", "kind", "message"),
    [
        (None, TypeError, "folder is None"),
        ("x" * 300, ValueError, "folder is 'xxx.*a name in it has more than 255 bytes"),
        ("a\0b", ValueError, "folder is .*has a character that no name of a file can have"),
    ],
)
def test_what_is_no_folder_is_refused_by_name(folder, kind, message):
    with pytest.raises(kind, match=message):
        shared_embedder(folder)
