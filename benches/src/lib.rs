//! Load generator, oracle and benchmarks.
