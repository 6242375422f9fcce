/* Included after the engine of a format: undefines its macros. */
#undef DFP_NAME
#undef DFP_ELEMENT
#undef DFP_GROUP
#undef DFP_LOAD
#undef DFP_BROADCAST
#undef DFP_MULTIPLY_ADD
#undef DFP_INTERLEAVE
#undef DFP_TRANSPOSE_GROUPS
#undef DFP_RESULT
#undef DFP_EPILOGUE
#undef DFP_FLUSHES
