"""Looking inside a training on integers: see docs/monitor.md."""
