"""Weights trained elsewhere: read safely, fitted to other channels and shapes, accounted for.

``pretrained.read`` gives the tensors of a file, folder or hub and what is known of their images (``archive``,
``nested``, ``places``, ``hub``, ``metadata``); ``load.load`` puts them into a module: ``names`` finds which name is
which, ``fit`` brings each tensor into shape (``channels`` with ``bands``, ``positions``, ``inflate``), ``compare``
warns of other images, ``account`` refuses too little, and ``report`` tells what became of every tensor.
"""
