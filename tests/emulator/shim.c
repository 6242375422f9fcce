/* Loaded before the extension module of bochscpu-python 0.4.0, with its symbols made global.
 *
 * The module asks for two names that only newer C libraries have, and always builds the CPU model
 * "corei3_cnl"; defining that factory here replaces it by the factory of any other model that the
 * module contains. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *shim_module;  /* path of the extension module */
const char *shim_factory; /* mangled name of the wanted model's factory */

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(text, format, arguments);
    va_end(arguments);
    return count;
}

void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) {
    void *module = dlopen(shim_module, RTLD_NOW | RTLD_NOLOAD);
    void *factory = module ? dlsym(module, shim_factory) : NULL;
    if (!factory) {
        fprintf(stderr, "no CPU model %s in %s\n", shim_factory, shim_module);
        abort();
    }
    return ((void *(*)(void *))factory)(cpu);
}
