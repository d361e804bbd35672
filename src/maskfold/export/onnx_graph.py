"""A model with its TTA views as an ONNX graph: `photos` uint8 [B, H, W, 3] RGB -> `probs` float32 [B, 18]."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import nn

from maskfold.errors import UserError, first_line
from maskfold.models.classifier import Classifier
from maskfold.models.tta import VIEWS

INPUT, OUTPUT, BATCH = "photos", "probs", "batch"
# Photos in the example batch. torch.export would treat a batch of one photo as a constant.
NUM_EXAMPLES = 2
# A protobuf message, and so an ONNX file that holds its weights, has at most 2 GB. The graph itself needs little.
MAX_GRAPH_BYTES = 2 * 10**9


class PhotoProbs(nn.Module):
    """A model and its TTA views: photos uint8 [B, H, W, 3] RGB -> probabilities float32 [B, 18].

    The views are stacked along the batch, so that the model occurs only once in the graph. As in prediction.predict,
    each view has the same weight, and so has each batch of a view.
    """

    def __init__(self, model: Classifier, views: Sequence[str]):
        super().__init__()
        self.model, self.views = model, tuple(views)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        images = photos.permute(0, 3, 1, 2).float()
        batches_by_view = [VIEWS[view](images) for view in self.views]
        batches = [batch for group in batches_by_view for batch in group]
        if len(batches) == 1:
            return self.model(batches[0]).exp()
        shares = [1 / (len(group) * len(self.views)) for group in batches_by_view for _ in group]
        probs = self.model(torch.cat(batches)).exp().unflatten(0, (len(batches), -1))
        return (probs * torch.tensor(shares).view(-1, 1, 1)).sum(0)


def fold_graph(model: Classifier, views: Sequence[str], image_size: tuple[int, int], backbone: str) -> Any:
    """Convert a model on the CPU to an onnx.ModelProto. The size of the batch is free.

    backbone: its name, for messages. Raises UserError if torch cannot export the model or only for a fixed batch.
    """
    check_graph_size(sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()), backbone)
    example = torch.randint(0, 256, (NUM_EXAMPLES, *image_size, 3), dtype=torch.uint8)
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                PhotoProbs(model.eval(), views).eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            graph = _cleaned(program.model_proto)
    # The exporter raises exceptions of many types, depending on the layer that it cannot convert.
    except Exception as error:
        raise UserError(
            f"model.backbone {backbone}: torch.onnx can't export it ({first_line(_root_cause(error))}); train another "
            "backbone, or use the run in Python (maskfold.load_run)"
        ) from error
    if not graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(
            f"model.backbone {backbone}: torch.onnx exports it only for a fixed number of photos; train another "
            "backbone, or use the run in Python (maskfold.load_run)"
        )
    return graph


def check_graph_size(num_bytes: int, name: str) -> None:
    """Raise UserError if weights are too large for one ONNX file. name: of what has the weights, for messages."""
    if num_bytes > MAX_GRAPH_BYTES:
        raise UserError(
            f"{name}: the weights have {num_bytes / 1e9:.1f} GB, but an ONNX file can hold {MAX_GRAPH_BYTES / 1e9:.0f} "
            "GB; export fewer folds with --folds, store half the bytes with --half, or train a smaller backbone"
        )


def _cleaned(model: Any) -> Any:
    """Remove what the exporter notes about the Python code, such as the paths of its files, and name the batch axis."""
    import onnx

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _clean_graph(model.graph)
    model.graph.name, model.doc_string = "maskfold", ""
    del model.metadata_props[:]
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = BATCH
    return model


def _clean_graph(graph: Any) -> None:
    graph.doc_string = ""
    # The intermediate shapes contain expressions of the batch size. onnxruntime infers them itself.
    del graph.value_info[:], graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _clean_graph(inner)
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]


def _root_cause(error: BaseException) -> BaseException:
    """The first error of a chain. The exporter wraps it in errors of several hundred lines."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress all output of the exporter: it prints its steps, warnings and reports of failures."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
