"""Whole training steps and predictions of a model: what ``dfpkeras bench --step`` runs.

Every contender has its own process, so that its peak memory can be measured and it may use another
Keras backend. They take turns: only one computes at a time.
"""
