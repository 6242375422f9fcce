"""Images to train on: the embedded digits and TFRecords in the layout of ImageNet.

Importing this package imports neither TensorFlow nor anything else of the extra ``train``; the
modules in it do so when they are used.
"""
