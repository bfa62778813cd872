"""From a trained network to a self-describing ONNX file, proven to answer alike."""
