"""Tools whose model is one of the Hub, run with tiny models of the same classes that are loaded from folders."""

from base64 import b64decode
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageChops

from t3_agents.errors import InputError
from t3_agents.models.vlm import VLMModel
from t3_agents.tools.facedetection import HubFaceDetection
from t3_agents.tools.hub_models.detection import suppress
from t3_agents.tools.hub_models.sam import all_masks, masks_in_boxes, named_masks
from t3_agents.tools.hub_models.shared_models import MAX_SIDE, hub_model
from t3_agents.tools.image_edit import HubImageEdit
from t3_agents.tools.image_generator import HubImageGenerator
from t3_agents.tools.objectlocation import HubObjectLocation
from t3_agents.tools.ocr import HubOcr
from t3_agents.tools.segmentation import HubSegmentation
from t3_agents.tools.visualizer import HubVisualizer
from tests.helpers import in_threads, tiny_hub
from tests.helpers.chat_server import ChatServer


@pytest.fixture(scope="module", params=[tiny_hub.make_owlv2, tiny_hub.make_grounding_dino], ids=["owlv2", "dino"])
def detector(request, tmp_path_factory):
    return str(request.param(tmp_path_factory.mktemp("detector")))


def model_fixture(name, make, **settings):
    """A fixture with the folder of a tiny model."""

    @pytest.fixture(scope="module", name=name)
    def folder(tmp_path_factory):
        return str(make(tmp_path_factory.mktemp(name), **settings))

    return folder


sam2 = model_fixture("sam2", tiny_hub.make_sam2)
sam3 = model_fixture("sam3", tiny_hub.make_sam3)
generator = model_fixture("generator", tiny_hub.make_stable_diffusion)
editor = model_fixture("editor", tiny_hub.make_stable_diffusion, edits=True)


@pytest.fixture
def place(workspace, attach):
    """Put a tool into the workspace and the picture beside it."""

    def place(tool, picture):
        tool.workspace = workspace
        return tool, attach(picture)

    return place


def test_boxes_are_those_of_the_stock_pipeline(detector, place, portrait):
    from transformers import pipeline

    stock = pipeline("zero-shot-object-detection", model=detector, device="cpu")
    image = Image.open(portrait).convert("RGB")
    answers = stock(image, candidate_labels=["red fruit"], threshold=0.0)
    boxes = np.array([[answer["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for answer in answers])
    tool, path = place(HubObjectLocation(model=detector, threshold=0.0), portrait)
    found = tool("red fruit", path)
    assert len(found) >= 3 and all(type(side) is int for box in found for side in box)
    for box in found:
        assert 0 <= box[0] < box[2] <= image.width and 0 <= box[1] < box[3] <= image.height
        # The pipeline cuts where the tool rounds, and does not clip.
        assert np.abs(boxes.clip(0, [512, 600, 512, 600]) - box).max(axis=1).min() <= 1
    best = answers[0]["score"]
    assert HubObjectLocation(model=detector, threshold=best + 0.01)("red fruit", str(portrait)) == []


def test_boxes_grow_with_the_picture(detector, place, portrait, tmp_path):
    image = Image.open(portrait)
    image.resize((image.width * 2, image.height * 2)).save(tmp_path / "large.png")
    tool = HubObjectLocation(model=detector, threshold=0.0)
    small, large = tool("red fruit", str(portrait)), tool("red fruit", str(tmp_path / "large.png"))
    assert len(small) >= 3
    near = [min(max(abs(2 * a - b) for a, b in zip(one, other, strict=True)) for other in large) for one in small]
    assert sorted(near)[len(near) // 2] <= 12


def test_faces_are_asked_for_by_name(detector, place, portrait):
    tool, path = place(HubFaceDetection(model=detector, threshold=0.0), portrait)
    boxes = tool(path)
    assert boxes == sorted(HubObjectLocation(model=detector, threshold=0.0)("human face", str(portrait)))


def test_the_better_of_two_boxes_for_one_place_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 60, 60]], dtype=float)
    assert suppress(boxes, np.array([0.5, 0.9, 0.7]), 0.5) == [1, 2]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5) == []


def test_a_model_of_another_class(sam2, sam3, portrait):
    for tool, prompt in (
        (HubSegmentation(text_model=sam2), "cat"),
        (HubSegmentation(model=sam3), [10, 10, 90, 90]),
    ):
        with pytest.raises(InputError, match="cannot be loaded|holds no weights"):
            tool(str(portrait), prompt)
    with pytest.raises(InputError, match="cannot be loaded"):
        HubObjectLocation(model=sam2)("cat", str(portrait))
    with pytest.raises(InputError, match="cannot be loaded"):
        HubVisualizer(model=sam2)(str(portrait), "What is it?")


@pytest.mark.parametrize("name", ["", " , ", None, ["cat"], "apple " * 100])
def test_names_that_say_nothing(name, portrait):
    with pytest.raises(InputError, match="a few words"):
        HubObjectLocation()(name, str(portrait))


def test_a_model_that_is_not_there(portrait, tmp_path):
    for tool in (HubObjectLocation, HubFaceDetection, HubSegmentation, HubImageGenerator, HubImageEdit):
        arguments = {name: str(portrait) if "path" in name else "cat" for name in tool.inputs if name != "prompt"}
        if "prompt" in tool.inputs and tool is not HubSegmentation:
            arguments["prompt"] = "a cat"
        with pytest.raises(InputError, match=r"`.*none` .*cannot be loaded"):
            tool(model=str(tmp_path / "none"))(**arguments)


def test_masks_follow_boxes_and_scale(sam2, portrait):
    image = Image.open(portrait).convert("RGB")
    boxes = [[10, 10, 200, 300], [173, 128, 358, 334]]
    first, second = masks_in_boxes(image, boxes, sam2)
    assert first.shape == (600, 512) and first.dtype == bool and first.any() and not first.all()
    assert (first != second).mean() > 0.01
    # The model sees the same in a picture of twice the size, where boxes are given in its pixels.
    large = image.resize((1024, 1200), Image.Resampling.BICUBIC)
    again, _ = masks_in_boxes(large, [[2 * side for side in box] for box in boxes], sam2)
    assert (again[::2, ::2] == first).mean() > 0.97
    assert (masks_in_boxes(large, boxes, sam2)[0][::2, ::2] == first).mean() < 0.97


def test_masks_of_everything_are_distinct(sam2, portrait):
    masks = all_masks(Image.open(portrait).convert("RGB"), sam2)
    sizes = [int(mask.sum()) for mask in masks]
    assert masks and sizes == sorted(sizes, reverse=True) and min(sizes) > 0


def test_masks_of_a_name(sam3, portrait):
    image = Image.open(portrait).convert("RGB")
    fruit, cats = named_masks(image, "red fruit", sam3), named_masks(image, "cat", sam3)
    assert fruit and cats and fruit[0].shape == (600, 512)
    assert len(fruit) != len(cats) or any((one != other).any() for one, other in zip(fruit, cats, strict=True))
    named_masks(image, "a long text " * 40, sam3)


def test_segmentation_paints_what_the_model_says(sam2, sam3, place, workspace, portrait):
    tool, path = place(HubSegmentation(model=sam2, text_model=sam3), portrait)
    box = [173, 128, 358, 334]
    result = tool(path, [box])
    assert result == "outputs/segmentation_1.png" and tool(path, box) == "outputs/segmentation_2.png"
    image = Image.open(portrait).convert("RGB")
    (mask,) = masks_in_boxes(image, [box], sam2)
    changed = np.asarray(ImageChops.difference(Image.open(workspace.root / result), image)).any(axis=2)
    # All that changed lies in the mask or under its number; a pixel may have had the color already.
    assert changed[mask].mean() > 0.95 and changed[~mask].mean() < 0.01
    assert Image.open(workspace.root / tool(path, "red fruit")).size == image.size
    assert Image.open(workspace.root / tool(path)).size == image.size


def test_one_seed_makes_one_picture(generator, use, workspace):
    def make(prompt, seed):
        tool = use(HubImageGenerator(model=generator, num_inference_steps=2, seed=seed))
        path = tool(prompt)
        assert path.startswith("outputs/image_")
        return np.asarray(Image.open(workspace.root / path)).astype(int)

    first = make("a red cat", 1)
    assert first.shape == (64, 64, 3) and (make("a red cat", 1) == first).all()
    assert (make("a red cat", 2) != first).any() and (make("a dog", 1) != first).any()


@pytest.mark.parametrize("kind", ["editor", "generator"])
def test_edits_depend_on_picture_and_prompt(kind, request, place, workspace, portrait, tmp_path):
    model = request.getfixturevalue(kind)
    Image.open(portrait).resize((150, 90)).save(tmp_path / "small.png")
    Image.new("RGB", (150, 90), "blue").save(tmp_path / "blue.png")
    # An image-to-image pipeline runs only a part of the steps.
    tool, small = place(HubImageEdit(model=model, num_inference_steps=4), tmp_path / "small.png")
    _, blue = place(tool, tmp_path / "blue.png")
    calls = [("make it night", small), ("make it night", small), ("make it night", blue), ("a dog", small)]
    results = [np.asarray(Image.open(workspace.root / tool(*call))) for call in calls]
    assert results[0].shape == (80, 144, 3) and (results[0] == results[1]).all()
    assert (results[0] != results[2]).any() and (results[0] != results[3]).any()


def test_a_pipeline_of_another_kind(editor):
    with pytest.raises(InputError, match="cannot be used for this"):
        HubImageGenerator(model=editor, num_inference_steps=1)("a cat")


@pytest.mark.parametrize("prompt", ["", "  ", None, 3])
def test_prompts_that_say_nothing(prompt, portrait):
    with pytest.raises(InputError, match="`prompt` must say"):
        HubImageGenerator()(prompt)
    with pytest.raises(InputError, match="`prompt` must say"):
        HubImageEdit()(prompt, str(portrait))


def test_a_folder_of_a_vlm_answers(tiny_vlm, place, portrait, shapes):
    tool, path = place(HubVisualizer(model=str(tiny_vlm), max_new_tokens=8), portrait)
    _, other = place(tool, shapes)
    answer = tool(path, "What is shown?")
    assert answer and answer == tool(path, "What is shown?")
    # The random model is sensitive to its input, so the pixels and the question reach it.
    assert tool(other, "What is shown?") != answer or tool(other, "Why?") != tool(path, "Why?")
    ocr, path = place(HubOcr(model=str(tiny_vlm), max_new_tokens=8), portrait)
    assert isinstance(ocr(path), str)


def test_the_controller_of_the_agent_answers(tiny_vlm, place, portrait):
    tool, path = place(HubVisualizer(), portrait)
    with pytest.raises(InputError, match="belongs to no agent"):
        tool(path, "What is shown?")
    tool.controller = VLMModel.from_pretrained(str(tiny_vlm), device="cpu", max_new_tokens=8)
    assert tool(path, "What is shown?") == HubVisualizer(model=str(tiny_vlm), max_new_tokens=8)(
        str(portrait), "What is shown?"
    )


def tell_picture(request):
    """Size and a color of the picture that a request brings."""
    parts = {part["type"]: part for part in request["messages"][-1]["content"]}
    head, data = parts["image_url"]["image_url"]["url"].split(",", 1)
    image = Image.open(BytesIO(b64decode(data)))
    return f"{head} {image.width} x {image.height} {image.convert('RGB').getpixel((5, 5))}"


def test_an_endpoint_gets_the_picture(place, make_picture):
    with ChatServer([tell_picture]) as server:
        visualizer = HubVisualizer(model="some-vlm", api_base=server.url, max_new_tokens=77)
        tool, path = place(visualizer, make_picture(color="green"))
        assert tool(path, "Which color?") == "data:image/png;base64 96 x 64 (0, 0, 0)"
    (request,) = server.requests
    assert request["model"] == "some-vlm" and request["max_tokens"] == 77
    assert request["messages"][-1]["content"][-1] == {"type": "text", "text": "Which color?"}


def test_an_endpoint_gets_large_pictures_reduced(place, tmp_path):
    Image.new("RGB", (2 * MAX_SIDE, 1000), "red").save(tmp_path / "wide.png")
    with ChatServer([tell_picture]) as server:
        tool, path = place(HubOcr(model="some-vlm", api_base=server.url), tmp_path / "wide.png")
        assert f"{MAX_SIDE} x 500 (255, 0, 0)" in tool(path)


def test_a_server_that_is_down(place, portrait):
    tool, path = place(HubVisualizer(model="some-vlm", api_base="http://127.0.0.1:9/v1"), portrait)
    with pytest.raises(InputError, match="no connection; start the server"):
        tool(path, "What is it?")


@pytest.mark.parametrize("question", ["", " ", None, 3])
def test_a_question_is_needed(question, portrait):
    with pytest.raises(InputError, match="`question` must say"):
        HubVisualizer()(str(portrait), question)


def test_threads_share_one_copy(sam2):
    models = in_threads([partial(hub_model, "Sam2Model", sam2, "ViTImageProcessorPil", device="cpu")] * 4)
    assert len({id(one.model) for one in models}) == 1


def test_dtype_can_be_chosen(sam2, place, portrait):
    tool, path = place(HubSegmentation(model=sam2, dtype="float64", device="cpu"), portrait)
    assert tool(path, [[10, 10, 90, 90]])
    assert str(hub_model("Sam2Model", sam2, "ViTImageProcessorPil", device="cpu", dtype="float64").model.dtype) == (
        "torch.float64"
    )
