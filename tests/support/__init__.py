"""Helpers of the test suite: real servers, faults between them and the code, and waiting without sleeping."""
