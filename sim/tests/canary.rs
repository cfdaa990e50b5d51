//! Facts about turmoil and tokio that the simulation stands on. Where one of these fails after an update, read
//! `docs/SIMULATION.md` before believing a green run.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

type Notes = Arc<Mutex<Vec<String>>>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn world<'a>() -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(600))
        .tick_duration(ms(5))
        .min_message_latency(ms(5))
        .max_message_latency(ms(5))
        .rng_seed(1)
        .build()
}

/// Echoes, and notes how each stream ends.
async fn echo(notes: Notes) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", 9000)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let notes = Arc::clone(&notes);
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let _ = stream.write_all(&buffer[..count]).await;
            }
            notes.lock().expect("nobody panicked").push("a stream ended".to_owned());
        });
    }
}

fn step_for(sim: &mut turmoil::Sim<'_>, span: Duration) {
    let until = sim.elapsed() + span;
    while sim.elapsed() < until {
        sim.step().expect("no host fails");
    }
}

/// A client that writes a byte every 50 ms, and notes what comes back and how it ends.
fn talker(sim: &mut turmoil::Sim<'_>, notes: &Notes) {
    let notes = Arc::clone(notes);
    sim.client("client", async move {
        let note = |text: String| notes.lock().expect("nobody panicked").push(text);
        let mut stream = match TcpStream::connect("server:9000").await {
            Ok(stream) => stream,
            Err(error) => {
                note(format!("refused: {:?}", error.kind()));
                return Ok(());
            }
        };
        note("connected".to_owned());
        loop {
            if let Err(error) = stream.write_all(b"x").await {
                note(format!("write: {:?}", error.kind()));
                return Ok(());
            }
            let mut byte = [0; 1];
            match tokio::time::timeout(ms(2000), stream.read(&mut byte)).await {
                Err(_) => note("silence".to_owned()),
                Ok(Ok(0)) => {
                    note("end of stream".to_owned());
                    return Ok(());
                }
                Ok(Ok(_)) => note("echo".to_owned()),
                Ok(Err(error)) => {
                    note(format!("read: {:?}", error.kind()));
                    return Ok(());
                }
            }
            tokio::time::sleep(ms(50)).await;
        }
    });
}

fn setup<'a>() -> (turmoil::Sim<'a>, Notes) {
    let (mut sim, notes) = (world(), Notes::default());
    let server_notes = Arc::new(Mutex::new(Vec::new()));
    sim.host("server", move || echo(Arc::clone(&server_notes)));
    (sim, notes)
}

#[test]
fn a_partition_is_silence_and_the_stream_stays_dead_after_it() {
    let (mut sim, notes) = setup();
    talker(&mut sim, &notes);
    step_for(&mut sim, ms(200));
    assert_eq!(notes.lock().unwrap().last().unwrap(), "echo");
    sim.partition("server", "client");
    step_for(&mut sim, ms(2100));
    sim.repair("server", "client");
    notes.lock().unwrap().clear();
    step_for(&mut sim, ms(6000));
    let notes = notes.lock().unwrap();
    assert!(!notes.is_empty() && notes.iter().all(|note| note == "silence"), "{notes:?}");
}

#[test]
fn a_partitioned_dial_is_refused_at_once() {
    let (mut sim, notes) = setup();
    talker(&mut sim, &notes);
    sim.partition("server", "client");
    step_for(&mut sim, ms(50));
    assert_eq!(*notes.lock().unwrap(), ["refused: ConnectionRefused"]);
}

#[test]
fn a_held_dial_hangs_and_succeeds_after_the_release() {
    let (mut sim, notes) = setup();
    talker(&mut sim, &notes);
    sim.hold("server", "client");
    step_for(&mut sim, ms(5000));
    assert!(notes.lock().unwrap().is_empty());
    sim.release("server", "client");
    step_for(&mut sim, ms(100));
    assert_eq!(notes.lock().unwrap()[0], "connected");
}

#[test]
fn a_held_stream_lives_on_after_the_release() {
    let (mut sim, notes) = setup();
    talker(&mut sim, &notes);
    step_for(&mut sim, ms(200));
    sim.hold("server", "client");
    step_for(&mut sim, ms(1000));
    sim.release("server", "client");
    notes.lock().unwrap().clear();
    step_for(&mut sim, ms(500));
    assert_eq!(notes.lock().unwrap()[0], "echo");
}

#[test]
fn a_crash_is_a_clean_end_and_a_dial_to_a_crashed_host_hangs_until_the_bounce_refuses_it() {
    let (mut sim, notes) = setup();
    talker(&mut sim, &notes);
    step_for(&mut sim, ms(200));
    sim.crash("server");
    step_for(&mut sim, ms(200));
    assert_eq!(notes.lock().unwrap().last().unwrap(), "end of stream");
    let late = Notes::default();
    let dialing = Arc::clone(&late);
    sim.client("late", async move {
        let dialed = TcpStream::connect("server:9000").await;
        dialing
            .lock()
            .expect("nobody panicked")
            .push(format!("{:?}", dialed.map(|_| ()).map_err(|error| error.kind())));
        Ok(())
    });
    step_for(&mut sim, ms(3000));
    assert!(late.lock().unwrap().is_empty());
    sim.bounce("server");
    step_for(&mut sim, ms(100));
    // The SYN is delivered before the software has bound its port again.
    assert_eq!(*late.lock().unwrap(), ["Err(ConnectionRefused)"]);
}

#[test]
fn simulated_time_is_exact_within_a_tick_and_equal_on_all_hosts() {
    let (mut sim, notes) = (world(), Notes::default());
    for name in ["early", "late"] {
        let notes = Arc::clone(&notes);
        sim.client(name, async move {
            tokio::time::sleep(ms(7)).await;
            notes.lock().expect("nobody panicked").push(format!("{:?}", turmoil::sim_elapsed()));
            Ok(())
        });
    }
    step_for(&mut sim, ms(20));
    assert_eq!(*notes.lock().unwrap(), ["Some(7ms)", "Some(7ms)"]);
}

#[test]
fn a_panic_in_a_spawned_task_is_swallowed_without_a_trap() {
    let mut sim = world();
    sim.client("client", async {
        tokio::spawn(async { panic!("unheard") });
        tokio::time::sleep(ms(20)).await;
        Ok(())
    });
    assert!(sim.run().is_ok());
}
