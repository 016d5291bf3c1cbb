//! Which faults come when, drawn from the seed. Pure.

use std::time::Duration;

use crate::draw::Draw;
use crate::ground::{Armed, EXECUTIONS, Role};
use crate::options::Fault;

/// One fault after the other in each of two rows: one for the processes of the mesh, one for what they stand on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) processes: Vec<Step>,
    pub(crate) servers: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// After the one before it is over.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    /// Which of the processes of its kind.
    pub(crate) instance: usize,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    pub(crate) armed: Option<Armed>,
}

const PROCESSES: [(u64, Fault); 8] = [
    (30, Fault::KillExecution),
    (25, Fault::FreezeExecution),
    (8, Fault::KillNode),
    (8, Fault::FreezeNode),
    (50, Fault::Failpoint),
    (8, Fault::KillEdge),
    (5, Fault::FreezeEdge),
    (3, Fault::KillAll),
];
const SERVERS: [(u64, Fault); 6] = [
    (10, Fault::KillNats),
    (10, Fault::FreezeNats),
    (10, Fault::KillPostgres),
    (10, Fault::FreezePostgres),
    (30, Fault::CutAfterCommit),
    (15, Fault::CutBeforeRequest),
];

/// Faults for so many seconds; each failpoint is armed about equally often.
pub(crate) fn plan(seed: u64, time: Duration, allowed: &[Fault], points: &[String]) -> Plan {
    let (mut processes, mut servers) = (Draw::of(seed, "processes"), Draw::of(seed, "servers"));
    let mut points = shuffled(points, &mut Draw::of(seed, "points")).into_iter().cycle();
    let mut weights = PROCESSES.map(|(weight, fault)| (if allowed.contains(&fault) { weight } else { 0 }, fault));
    if points.clone().next().is_none() {
        weights
            .iter_mut()
            .filter(|(_, fault)| *fault == Fault::Failpoint)
            .for_each(|(weight, _)| *weight = 0);
    }
    let row = |draw: &mut Draw,
               weights: &[(u64, Fault)],
               pause: (u64, u64),
               arm: &mut dyn FnMut(&mut Draw) -> Option<Armed>| {
        let (mut steps, mut at) = (Vec::new(), Duration::ZERO);
        while let Some(fault) = draw
            .weighted(weights)
            .filter(|_| weights.iter().any(|(weight, _)| *weight > 0))
        {
            let after = Duration::from_millis(draw.between(pause.0, pause.1));
            let lasts = lasts(fault, draw);
            at += after + if is_short(fault) { Duration::ZERO } else { lasts };
            if at > time {
                break;
            }
            steps.push(Step {
                after,
                fault,
                instance: usize::try_from(draw.between(0, EXECUTIONS.len() as u64)).unwrap_or(0),
                lasts,
                armed: (fault == Fault::Failpoint).then(|| arm(draw)).flatten(),
            });
        }
        steps
    };
    let mut arm = |draw: &mut Draw| Some(armed(points.next()?, draw));
    let processes = row(&mut processes, &weights, (250, 1_800), &mut arm);
    let weights = SERVERS.map(|(weight, fault)| (if allowed.contains(&fault) { weight } else { 0 }, fault));
    let servers = row(&mut servers, &weights, (400, 3_500), &mut |_| None);
    Plan { processes, servers }
}

/// Whether the next one may come while this one lasts.
fn is_short(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::KillExecution
            | Fault::FreezeExecution
            | Fault::KillNode
            | Fault::FreezeNode
            | Fault::Failpoint
            | Fault::CutAfterCommit
            | Fault::CutBeforeRequest
    )
}

fn lasts(fault: Fault, draw: &mut Draw) -> Duration {
    let (low, high) = match fault {
        // Shards wait 3 s for a silent owner: some freezes are shorter, some longer.
        Fault::FreezeExecution if draw.percent(50) => (3_200, 6_500),
        Fault::FreezeExecution => (100, 2_500),
        // A process of the same name takes its shards at once; one that stays away loses them.
        // Its leases are 15 s.
        Fault::FreezeNode if draw.percent(25) => (15_500, 19_000),
        Fault::FreezeNode => (100, 4_000),
        Fault::KillExecution | Fault::Failpoint if draw.percent(40) => (3_200, 5_000),
        Fault::FreezeNats | Fault::FreezePostgres | Fault::FreezeEdge => (200, 4_000),
        Fault::CutAfterCommit | Fault::CutBeforeRequest => (0, 1),
        _ => (50, 1_500),
    };
    Duration::from_millis(draw.between(low, high))
}

fn armed(point: &str, draw: &mut Draw) -> Armed {
    let stop = Duration::from_millis(draw.between(3_200, 5_500));
    // Some places are passed once in a while, others by every step.
    let nth = if draw.percent(50) {
        draw.between(1, 4)
    } else {
        draw.between(4, 60)
    };
    let (ms, delay) = (stop.as_millis(), draw.between(50, 1_500));
    let actions = [(40, 0), (25, 1), (15, 2), (15, 3), (5, 4)];
    let spec = match draw.weighted(&actions) {
        Some(0) => format!("{point}=abort@{nth}"),
        Some(1) => format!("{point}=stop({ms})@{nth}"),
        Some(2) => format!("{point}=delay({delay})%0.2"),
        Some(3) => format!("{point}=error%0.2"),
        _ => format!("{point}=panic@{nth}"),
    };
    let seed = draw.next();
    Armed {
        spec: format!("seed={seed};{spec}"),
        stop,
    }
}

fn shuffled<'a>(points: &'a [String], draw: &mut Draw) -> Vec<&'a str> {
    let mut shuffled: Vec<&str> = points.iter().map(String::as_str).collect();
    for place in (1..shuffled.len()).rev() {
        let other = usize::try_from(draw.between(0, place as u64 + 1)).unwrap_or(0);
        shuffled.swap(place, other);
    }
    shuffled
}

/// The kind of process that passes a failpoint.
pub(crate) fn role_of(spec: &str) -> Role {
    let has = |prefix: &str| spec.split(';').any(|item| item.starts_with(prefix));
    if has("execution.") || has("worker.") {
        Role::Execution
    } else if has("node.") {
        Role::Node
    } else {
        Role::Edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<String> {
        ["execution.a", "worker.b", "gateway.c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_seed_plans_the_same_within_its_time() {
        let time = Duration::from_secs(60);
        let one = plan(5, time, &Fault::ALL, &points());
        assert_eq!(one, plan(5, time, &Fault::ALL, &points()));
        assert_ne!(one, plan(6, time, &Fault::ALL, &points()));
        assert!(one.processes.len() > 10 && one.servers.len() > 5, "{one:?}");
        let sum: Duration = one.processes.iter().map(|step| step.after).sum();
        assert!(sum <= time);
    }

    #[test]
    fn only_what_is_allowed_is_planned_and_every_point_is_armed_in_time() {
        let time = Duration::from_secs(120);
        let only = plan(1, time, &[Fault::Failpoint], &points());
        assert!(only.servers.is_empty());
        assert!(only.processes.iter().all(|step| step.fault == Fault::Failpoint));
        for point in points() {
            let is_armed = |step: &Step| step.armed.as_ref().is_some_and(|armed| armed.spec.contains(&point));
            assert!(only.processes.iter().any(is_armed), "{point}");
        }
        assert_eq!(plan(1, time, &[Fault::Failpoint], &[]), Plan::default());
        assert_eq!(plan(1, time, &[], &points()), Plan::default());
    }

    #[test]
    fn a_spec_says_whose_it_is() {
        assert_eq!(role_of("seed=1;worker.b=abort@1"), Role::Execution);
        assert_eq!(role_of("seed=1;node.b=abort@1"), Role::Node);
        assert_eq!(role_of("seed=1;gateway.c=abort@1"), Role::Edge);
    }
}
