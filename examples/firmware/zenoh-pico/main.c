// What a client of zenoh takes in kcpq's place: the work of src/bin/footprint.rs by zenoh-pico, without a network stack under it.
// Linked to be measured, not to be run (scripts/footprint --zenoh-pico).

#include <zenoh-pico.h>

static volatile size_t received;

static void on_message(z_loaned_sample_t *sample, void *context) {
    (void)context;
    received += z_bytes_len(z_sample_payload(sample));
}

int main(void) {
    z_owned_config_t config;
    z_config_default(&config);
    zp_config_insert(z_loan_mut(config), Z_CONFIG_MODE_KEY, "client");
    zp_config_insert(z_loan_mut(config), Z_CONFIG_CONNECT_KEY, "tcp/10.0.2.2:7447");
    z_owned_session_t session;
    if (z_open(&session, z_move(config), NULL) < 0) return 1;

    z_view_keyexpr_t subject;
    z_view_keyexpr_from_str_unchecked(&subject, "footprint/a");
    z_owned_closure_sample_t callback;
    z_closure(&callback, on_message, NULL, NULL);
    z_owned_subscriber_t subscriber;
    if (z_declare_subscriber(z_loan(session), &subscriber, z_loan(subject), z_move(callback), NULL) < 0) return 2;
    z_owned_publisher_t publisher;
    if (z_declare_publisher(z_loan(session), &publisher, z_loan(subject), NULL) < 0) return 3;

    uint8_t payload[64] = {0};
    for (uint8_t number = 0; number < 100; number++) {
        payload[0] = number;
        z_owned_bytes_t bytes;
        z_bytes_copy_from_buf(&bytes, payload, sizeof payload);
        z_publisher_put(z_loan(publisher), z_move(bytes), NULL);
        zp_read(z_loan(session), NULL);
        zp_send_keep_alive(z_loan(session), NULL);
    }
    return received == 100 * sizeof payload ? 0 : 4;
}
