"""What people look at while and after a training: a log, curves, pictures, TensorBoard, MLflow.

The log, the curves and the panel are values in, bytes out; whoever trains decides where they are kept.
"""
