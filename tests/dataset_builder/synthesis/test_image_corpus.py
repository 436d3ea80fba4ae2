import io
import json
import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest
from PIL import Image

from dataset_builder.synthesis import Candidate, PlannedFile, Rejected
from dataset_builder.synthesis.corpus.drawn_pictures import NUM_PICTURES, draw_captioned
from dataset_builder.synthesis.corpus.embedding import TextEmbedding
from dataset_builder.synthesis.corpus.image_corpus import MAX_PIXELS, ImageCorpus
from dataset_builder.synthesis.stages import files
from t3_agents.errors import InputError
from t3_agents.media import decode_image
from tests.helpers.replies import Replies


WORDS = TextEmbedding("words")


def encoded(color="red", kind="JPEG", size=(48, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format=kind)
    return buffer.getvalue()


def huge():
    """The header of a picture with more pixels than are allowed, and no pixels."""
    data = bytearray(encoded(kind="PNG", size=(1, 1)))
    side = int(MAX_PIXELS**0.5) + 1
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def dataset_of(rows):
    features = datasets.Features({"picture": datasets.Image(), "words": datasets.Value("string")})
    table = [{"picture": {"bytes": data, "path": None} if data else None, "words": words} for data, words in rows]
    return datasets.Dataset.from_list(table, features=features)


ROWS = [
    (encoded("red"), "a red fire engine in front of a house"),
    (encoded("green", "PNG"), "a green apple on a table"),
    (encoded("blue"), "a blue boat on a calm lake"),
]


def corpus_of(rows, cache, embed=WORDS):
    return ImageCorpus.from_dataset(dataset_of(rows), "made", embed, cache, "picture", "words")


def test_the_nearest_caption_wins_and_its_bytes_come_as_they_are(tmp_path):
    corpus = corpus_of(ROWS, tmp_path)
    found = corpus.nearest("a boat upon a lake", "jpg")
    assert found.data == ROWS[2][0]
    assert (found.row, found.caption) == (2, "a blue boat on a calm lake")
    assert 0.3 < found.likeness <= 1


def test_a_picture_of_another_format_is_saved_anew(tmp_path):
    corpus = corpus_of(ROWS, tmp_path)
    as_png = corpus.nearest("the red fire engine", "png").data
    assert Image.open(io.BytesIO(as_png)).format == "PNG"
    as_jpg = corpus.nearest("an apple that is green", "jpg").data
    assert Image.open(io.BytesIO(as_jpg)).format == "JPEG"
    assert decode_image(as_jpg, "x").getpixel((5, 5))[1] > 100


def test_poisoned_rows_are_skipped_and_counted(tmp_path):
    damaged = encoded("yellow", size=(200, 200))[:700]
    poisoned = [
        (b"not a picture", "a ship in a storm"),
        (None, "a ship in a storm"),
        (encoded(), None),
        (encoded(), "   "),
        (huge(), "a ship in a storm"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a ship in a storm"),
        (damaged, "a yellow taxi in heavy rain"),
    ]
    corpus = corpus_of(ROWS + poisoned, tmp_path)
    assert corpus.skipped == {"broken picture": 3, "no caption": 2, "huge picture": 1}
    assert len(corpus) == 4
    # Damaged behind a sound header: found out when it is needed, and the next nearest takes its place.
    assert corpus.nearest("a yellow taxi in heavy rain", "jpg").row != 9


def test_a_corpus_of_nothing_but_poison_is_refused(tmp_path):
    with pytest.raises(InputError, match="No row of the image corpus can be used: .*broken picture"):
        corpus_of([(b"x", "a caption of a picture")], tmp_path)
    assert not list(tmp_path.glob("images-*"))


def test_the_index_is_built_once(tmp_path):
    class Counting(TextEmbedding):
        texts = 0

        def __call__(self, texts):
            self.texts += len(texts)
            return super().__call__(texts)

    embed = Counting("words")
    folder = tmp_path / "corpus"
    dataset_of(ROWS).save_to_disk(str(folder))
    for _ in range(2):
        corpus = ImageCorpus.load(str(folder), embed, tmp_path / "cache", "picture", "words")
        assert corpus.nearest("a green apple", "png").row == 1
    assert embed.texts == len(ROWS) + 2
    dataset_of(ROWS[:2]).save_to_disk(str(tmp_path / "smaller"))
    assert len(ImageCorpus.load(str(tmp_path / "smaller"), embed, tmp_path / "cache", "picture", "words")) == 2


def test_many_threads_find_the_same(tmp_path):
    rows = [(encoded((n, n, n)), f"a photo of house number {n} in street {n * 3}") for n in range(60)]
    corpus = corpus_of(rows, tmp_path)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: corpus.nearest(f"house number {n} in street {n * 3}", "jpg").row, range(60)))
    assert found == list(range(60))


@pytest.mark.parametrize(
    ("columns", "words"), [(("image", "words"), "no column `image`"), (("words", "words"), "holds no pictures")]
)
def test_wrong_columns_are_refused(tmp_path, columns, words):
    with pytest.raises(InputError, match=words):
        ImageCorpus.from_dataset(dataset_of(ROWS), "made", WORDS, tmp_path, *columns)


def test_a_corpus_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        ImageCorpus.load(str(tmp_path / "nothing"), WORDS, tmp_path)


def test_the_drawn_corpus_has_true_captions_and_is_kept(tmp_path):
    corpus = ImageCorpus.load(None, WORDS, tmp_path)
    assert len(corpus) == NUM_PICTURES
    assert not corpus.skipped
    for number in random.Random(0).sample(range(NUM_PICTURES), 10):
        row = draw_captioned(number)
        assert row == draw_captioned(number)
        found = corpus.nearest(row["caption"], row["image"]["path"].rsplit(".")[1])
        assert found.caption == row["caption"]
    assert len(ImageCorpus.load(None, WORDS, tmp_path)) == NUM_PICTURES


def test_pictures_of_a_plan_come_from_the_corpus(tmp_path):
    plan = (PlannedFile("harbour.jpg", "jpg", "a boat on the lake"),)
    candidate = Candidate("gta-0-0", "gta", "What color has the boat in the picture?", plan=plan)
    made = files.make_files(candidate, Replies({}), corpus_of(ROWS, tmp_path))
    assert made.files[0].path == "files/harbour.jpg"
    assert made.files[0].open_image().size == (48, 32)
    (source,) = made.provenance["make_files"]["sources"]
    assert (source["corpus"], source["row"]) == ("made", 2)
    json.dumps(made.to_dict())
    damaged = corpus_of([(encoded(size=(200, 200))[:700], "a boat on a lake")], tmp_path)
    with pytest.raises(Rejected, match="no picture of the corpus can be opened for harbour.jpg"):
        files.make_files(candidate, Replies({}), damaged)
    with pytest.raises(InputError, match="no image corpus"):
        files.make_files(candidate, Replies({}), None)
