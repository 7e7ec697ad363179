// A library whose only function has a name.
extern "C" __attribute__((visibility("default"))) int library_function(int value) { return value * 2 + 1; }
