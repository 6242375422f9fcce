"""Images to train on: the embedded digits and TFRecords in the layout of ImageNet.

Importing this package imports neither TensorFlow nor anything else from the extra ``train``; its
modules do so when they are used.
"""
