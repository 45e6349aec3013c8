"""The conformance kit, for the models of this library and for yours."""
