"""The commands of `hsvm`, one file for each subject; `hsvm_engine.cli` puts them together."""
