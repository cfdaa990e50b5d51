//! One run, set up and carried out.

use std::sync::Arc;

use futures_util::FutureExt;
use hpx_transport::websocket::{Connection, ProtocolHandler};

use crate::{
    dialect::{Dialect, PlannedHandler, SimDialect},
    net::Backend,
    plan::{HandlerPlan, Plan},
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
    /// Called on the thread of the run, before it begins and when it is over.
    around: Option<Around>,
    bytes: bool,
}

/// What is called around a run.
#[derive(Clone)]
struct Around {
    before: Arc<dyn Fn(u64) + Send + Sync>,
    after: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Simulation {
    /// The run of a seed, with the default handler and dialect.
    pub fn new(seed: u64) -> Self {
        Self::of(Plan::draw(seed))
    }

    /// The run of a plan.
    pub fn of(plan: Plan) -> Self {
        let kit = Kit { connector: connector(PlannedHandler), dialect: Arc::new(SimDialect) };
        Self { plan: Arc::new(plan), kit, backend: Backend::default(), around: None, bytes: false }
    }

    /// Puts another handler to the test: `make` is called once per connection.
    pub fn handler<H: ProtocolHandler>(mut self, make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        self.kit.connector = connector(move |_| make());
        // It decides for itself.
        for client in &mut Arc::make_mut(&mut self.plan).clients {
            client.handler = HandlerPlan { topics_per_message: usize::MAX, ..HandlerPlan::default() };
        }
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

    /// Calls `before` on the thread of the run before it begins, and `after` when it is over, each with the seed: for whoever
    /// watches threads.
    pub fn around(
        mut self,
        before: impl Fn(u64) + Send + Sync + 'static,
        after: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        self.around = Some(Around { before: Arc::new(before), after: Arc::new(after) });
        self
    }

    /// Takes the digest of every byte that the clients' sockets read and wrote, too. Masks, and over TLS everything, differ
    /// from run to run, unless entropy is fed from the seed.
    pub fn byte_digest(mut self) -> Self {
        self.bytes = true;
        self
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs it, on a thread of its own: nothing an earlier run left in this one can reach it.
    pub fn run(&self) -> Report {
        let (plan, kit, backend) = (Arc::clone(&self.plan), self.kit.clone(), self.backend);
        let (around, bytes) = (self.around.clone(), self.bytes);
        let thread = std::thread::Builder::new().name(format!("seed {}", plan.seed));
        let running = thread.spawn(move || {
            if let Some(around) = &around {
                (around.before)(plan.seed);
            }
            let ran = world::run(&plan, &kit, backend, bytes);
            if let Some(around) = &around {
                (around.after)(plan.seed);
            }
            ran
        });
        // The run catches its own panics; without a thread there is no simulation.
        let ran = running.expect("a thread for the run starts").join().expect("a run catches its panics");
        Report::new(Arc::clone(&self.plan), self.backend, ran)
    }
}

fn connector<H: ProtocolHandler>(make: impl Fn(HandlerPlan) -> H + Send + Sync + 'static) -> Connector {
    Arc::new(move |env, config, handler| Connection::connect_in(env, config, make(handler)).boxed())
}
