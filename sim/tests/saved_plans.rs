//! A plan for each bug the simulation found: they stay green.
//!
//! | plan | what went wrong |
//! |---|---|
//! | `reconnect-as-the-upgrade-completes` | `reconnect()` in the instant in which an upgrade completed: the driver went on reading a link the session had given up, and took it for the next one |
//! | `unread-guard-spins-the-driver` | a guard that is not read was waited for at every burst, as if it were prompt: the driver polled itself 64 times for each message |
//! | `a-part-of-a-record-is-a-sign-of-life` | over TLS a slow peer was given up on while its bytes came in: only whole records counted |
//! | `tls-takes-what-its-socket-does-not` | over TLS each message that rustls took put `write_timeout` off, though the socket took nothing |
//! | `idle-beside-a-stream-grows-old` | an idle HTTP/1.1 connection was closed late: the reaper slept to the end of an HTTP/2 connection's life, and what became idle meanwhile did not wake it |
//! | `a-second-permit-of-one-waiter` | a waiter that was given a dead connection was allowed another dial; the end of its first took the second's permit for its own, and the pool had one less for good |
//! | `an-idle-peer-that-reads-nothing` | an idle HTTP/2 connection whose peer read nothing waited for ever to say goodbye: `close` hung, and its place in the pool was gone |
//! | `dead-before-its-waiter-looked` | a connection that died after it was given to a waiter, who went away without a look, was idle for good; the next request for its key dropped it, with it its host, and panicked |
//! | `a-dead-one-keeps-a-host-starving` | the same: for a host that waited for room it was closed again and again, and no room came of it |
//! | `a-head-stands-behind-bodies` | nothing: a rule accused a response whose head came late, behind the bodies on its connection |
//! | `restart-while-subscribed` | nothing: it shows how a plan is written by hand |

use std::{fs, path::Path};

use hpx_sim::{Backend, Plan, Simulation};

#[test]
fn every_saved_plan_is_green() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut plans = 0;
    for entry in fs::read_dir(folder).expect("there are saved plans") {
        let path = entry.expect("the folder can be read").path();
        let json = fs::read_to_string(&path).expect("a plan can be read");
        let plan = Plan::from_json(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for backend in Backend::ALL {
            let report = Simulation::of(plan.clone()).backend(backend).run();
            assert!(report.is_green(), "{} on {}\n{report}", path.display(), backend.name());
        }
        plans += 1;
    }
    assert!(plans >= 1);
}
