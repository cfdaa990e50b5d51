//! One run, set up and carried out.

use std::sync::Arc;

use futures_util::FutureExt;
use hpx_transport::websocket::{Connection, ProtocolHandler};

use crate::{
    dialect::{Dialect, SimDialect, SimHandler},
    net::Backend,
    plan::Plan,
    report::Report,
    workload::{Connector, Kit},
    world,
};

/// A run to be: a plan, the handler under test and the dialect of the exchange.
#[derive(Clone)]
pub struct Simulation {
    plan: Arc<Plan>,
    kit: Kit,
    backend: Backend,
}

impl Simulation {
    /// The run of a seed, with the default handler and dialect.
    pub fn new(seed: u64) -> Self {
        Self::of(Plan::draw(seed))
    }

    /// The run of a plan.
    pub fn of(plan: Plan) -> Self {
        let kit = Kit { connector: connector(|| SimHandler), dialect: Arc::new(SimDialect) };
        Self { plan: Arc::new(plan), kit, backend: Backend::default() }
    }

    /// Puts another handler to the test: `make` is called once per connection.
    pub fn handler<H: ProtocolHandler>(mut self, make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        self.kit.connector = connector(make);
        self
    }

    /// Teaches the exchange, the workload and the oracles the language of the handler.
    pub fn dialect(mut self, dialect: impl Dialect) -> Self {
        self.kit.dialect = Arc::new(dialect);
        self
    }

    /// Runs it on this backend; on turmoil, unless told.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs it, on a thread of its own: nothing an earlier run left in this one can reach it.
    pub fn run(&self) -> Report {
        let (plan, kit, backend) = (Arc::clone(&self.plan), self.kit.clone(), self.backend);
        let thread = std::thread::Builder::new().name(format!("seed {}", plan.seed));
        let running = thread.spawn(move || world::run(&plan, &kit, backend));
        // The run catches its own panics; without a thread there is no simulation.
        let ran = running.expect("a thread for the run starts").join().expect("a run catches its panics");
        Report::new(Arc::clone(&self.plan), self.backend, ran)
    }
}

fn connector<H: ProtocolHandler>(make: impl Fn() -> H + Send + Sync + 'static) -> Connector {
    Arc::new(move |env, config| Connection::connect_in(env, config, make()).boxed())
}
