//! The simulated environment passes the suite that every environment must pass.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use hpx_sim::SimEnv;
use hpx_transport::env::conformance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpListener;

fn simulate<F>(tick_ms: u64, client: impl FnOnce(SocketAddr, SocketAddr) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(7200))
        .tick_duration(Duration::from_millis(tick_ms))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(2))
        .rng_seed(1)
        .build();
    sim.host("server", || async {
        let listener = TcpListener::bind(("0.0.0.0", 9000)).await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let server = sim.lookup("server");
    let running = client(SocketAddr::new(server, 9000), SocketAddr::new(server, 9999));
    sim.client("client", async move {
        running.await;
        Ok(())
    });
    sim.run().expect("every check passes");
}

#[test]
fn the_simulated_environment_keeps_the_contract_of_env() {
    for tick_ms in [1, 5, 100] {
        simulate(tick_ms, |open, closed| async move {
            let env = SimEnv::standalone(1);
            conformance::run(&env).await;
            conformance::bytes_come_back(&env, open).await;
            conformance::a_closed_port_refuses(&env, closed).await;
            conformance::a_known_name_resolves(&env, "192.168.0.1").await;
            conformance::an_unknown_name_does_not_resolve(&env, "nowhere").await;
            let census = env.census();
            assert!(census.is_empty(), "{census:?}");
        });
    }
}
