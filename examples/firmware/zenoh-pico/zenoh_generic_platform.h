// A platform of which there is nothing but the types: sockets, clock and allocator are left open when the program is linked, so
// that they do not count.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int socket;
} _z_sys_net_socket_t;

typedef struct {
    uint32_t address;
    uint16_t port;
} _z_sys_net_endpoint_t;

typedef uint64_t z_clock_t;
typedef uint64_t z_time_t;
