"""Whole training steps and predictions of a model: what ``dfpkeras bench --step`` runs.

Every contender lives in a process of its own, so that each has the peak memory that it needs and
may use another Keras backend. They take turns: only one computes at a time.
"""
