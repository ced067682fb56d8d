//! Without the feature `nats` there is no backbone.

use std::convert::Infallible;
use std::io;
use std::time::Instant;

use kcpq_core::access::RuleError;
use kcpq_core::broker::gateway;

use crate::failure::Guard;
use crate::handle::Handle;
use crate::shard::Command;
use crate::view::BackboneView;

/// There is none without the feature `nats`.
#[derive(Clone, Debug)]
pub struct Backbone(Infallible);

impl Backbone {
    pub(crate) fn shares_values(&self) -> bool {
        match self.0 {}
    }
}

pub(crate) struct Prepared(Infallible);

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) handle: Handle,
    never: Infallible,
}

pub(crate) fn prepare(
    Backbone(never): Backbone,
    _: gateway::Config,
    _: usize,
    _: u64,
    _: Instant,
) -> io::Result<Result<(Prepared, Handle), RuleError>> {
    match never {}
}

impl Prepared {
    pub(crate) fn start(self, _: &[Handle], _: Handle, _: Guard) -> io::Result<Running> {
        match self.0 {}
    }
}

impl Running {
    pub(crate) fn end(&mut self, _: Command) -> Option<BackboneView> {
        match self.never {}
    }
}
