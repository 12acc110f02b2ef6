"""Weights trained elsewhere: read safely, fitted to other channels and shapes, accounted for.

``pretrained.read`` gives the tensors of a file, folder or hub and what is known of their images (``archive``,
``torchscript``, ``onnx_file``, ``nested``, ``resolve``, ``hub``, ``metadata``); ``load.load`` puts them into a module:
``names`` finds which name is which (``order``, where none fits), ``fit`` brings each tensor into shape (``channels``
with ``bands``, ``positions``, ``inflate``), ``check_inputs`` warns of other images, ``coverage`` refuses too little,
and ``report`` lists what became of every tensor.
"""
