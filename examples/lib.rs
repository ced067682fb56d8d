//! Programs to start from, each the answer to one question:
//!
//! | run with `cargo run -p kcpq-examples --example` | question |
//! |---|---|
//! | `quickstart` | How does a message travel? Server, subscriber and publisher in one process. |
//! | `publisher` | How do I publish, and know that the server has it? |
//! | `subscriber` | How do I receive, notice lost connections, and see what was dropped? |
//! | `ping_pong` | How long does a message take there and back? |
//!
//! `publisher`, `subscriber` and `ping_pong` take the server's address as their argument; `127.0.0.1:4000` without one.

#![forbid(unsafe_code)]
