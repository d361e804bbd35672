"""Join the ONNX graphs of folds into one model: mean of the probabilities, temperature, fp16 weights, metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskfold.export.onnx_graph import BATCH, INPUT, OUTPUT, check_graph_size
from maskfold.labels import NUM_CLASSES
from maskfold.metrics.calibration import MIN_PROB

# Smaller tensors stay fp32: biases and statistics need little space, and some of them are sensitive.
MIN_HALF_ELEMENTS = 256
MAX_HALF = float(np.finfo(np.float16).max)


def ensemble_graph(graphs: Sequence[Any], temperature: float, metadata: Mapping[str, str], name: str) -> Any:
    """Join graphs of onnx_graph.fold_graph into an onnx.ModelProto with the same input and output.

    The probabilities are averaged over the graphs, then scaled as in calibration.apply_temperature. metadata: written
    into the file (metadata_props). name: the run's name, for messages. Raises UserError if the file would be larger
    than an ONNX file can be.
    """
    from onnx import compose, helper, numpy_helper

    check_graph_size(sum(graph.ByteSize() for graph in graphs), name)
    nodes, initializers = [], []
    for number, graph in enumerate(graphs):
        prefix = f"model{number}/"
        part = compose.add_prefix(graph, prefix).graph
        nodes += [helper.make_node("Identity", [INPUT], [f"{prefix}{INPUT}"], f"{prefix}input"), *part.node]
        initializers += list(part.initializer)
    last = OUTPUT if temperature == 1 else "mean"
    nodes.append(helper.make_node("Mean", [f"model{n}/{OUTPUT}" for n in range(len(graphs))], [last], "mean_of_models"))
    if temperature != 1:
        constants = {"min_prob": MIN_PROB, "temperature": temperature}
        initializers += [numpy_helper.from_array(np.float32(value), key) for key, value in constants.items()]
        nodes += [
            helper.make_node("Max", ["mean", "min_prob"], ["positive"], "positive"),
            helper.make_node("Log", ["positive"], ["log_probs"], "log_probs"),
            helper.make_node("Div", ["log_probs", "temperature"], ["scaled"], "scaled"),
            helper.make_node("Softmax", ["scaled"], [OUTPUT], "softmax", axis=1),
        ]
    output = helper.make_tensor_value_info(OUTPUT, _float_type(), [BATCH, NUM_CLASSES])
    joined = helper.make_graph(nodes, "maskfold", [graphs[0].graph.input[0]], [output], initializers)
    model = helper.make_model(joined, opset_imports=graphs[0].opset_import, ir_version=graphs[0].ir_version)
    model.producer_name = "maskfold"
    helper.set_model_props(model, dict(metadata))
    return model


def store_half(model: Any) -> None:
    """Store the large weights of an onnx.ModelProto as fp16, in place; a Cast node converts them to fp32 at load.

    All computations stay fp32. Weights that fp16 cannot hold stay fp32.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_HALF_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= MAX_HALF:
            continue
        name, stored = tensor.name, f"{tensor.name}_fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], f"{name}_cast", to=TensorProto.FLOAT))
    # In a valid graph, each value is computed before the nodes that use it.
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _float_type() -> int:
    from onnx import TensorProto

    return TensorProto.FLOAT
