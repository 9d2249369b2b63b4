//! The figures of all instances and of the master, as Prometheus reads them.

use super::api::{unexpected, Api};
use super::call::Reply;
use super::record::{Kind, Status};
use super::requests::{Answer, Order, Refusal, Request, Sample};
use crate::logic::metrics::exposition::{label, Exposition, CONTENT_TYPE};
use crate::logic::metrics::Figures;
use crate::run::process;

/// The answer to `GET /v1/metrics`.
pub(super) fn reply<M: From<Request>>(api: &Api<M>) -> Result<Reply, Refusal> {
    match api.ask(Order::Figures)? {
        Answer::Samples(samples) => {
            let headers = vec![("Content-Type", CONTENT_TYPE.into())];
            Ok(Reply::Whole { status: 200, headers, body: exposition(&samples).into_bytes() })
        }
        other => Err(unexpected(&other)),
    }
}

fn exposition(samples: &[Sample]) -> String {
    let mut text = Exposition::default();
    text.build();
    let labels: Vec<String> = samples.iter().map(labels).collect();
    let with_labels = || samples.iter().zip(labels.iter().map(String::as_str));

    let name = "nodepass_instance_up";
    text.family(name, "gauge", "Whether an instance of the master runs and is well.");
    with_labels().for_each(|(sample, labels)| {
        text.sample(name, [labels, ""], u8::from(sample.status == Status::Running));
    });
    let sources: Vec<(&str, &Figures)> =
        with_labels().filter_map(|(sample, labels)| Some((labels, sample.figures.as_ref()?))).collect();
    text.table(&sources);

    let own = process::figures("self").map(|figures| (MASTER, figures));
    let children = with_labels().filter_map(|(sample, labels)| {
        let figures = process::figures(&sample.process?.to_string())?;
        Some((labels, figures))
    });
    process::show(&mut text, &own.into_iter().chain(children).collect::<Vec<_>>());
    text.finish()
}

fn labels(sample: &Sample) -> String {
    let role = match sample.kind {
        Kind::Server => "server",
        Kind::Client => "client",
        Kind::Master => "master",
    };
    [label("id", &sample.id), label("alias", &sample.alias), label("role", role)].join(",")
}

/// The labels of the master's own process.
const MASTER: &str = "id=\"\",alias=\"\",role=\"master\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::metrics::CELLS;

    #[test]
    fn each_instance_is_told_by_id_alias_and_role_and_one_without_a_process_has_no_figures() {
        let sample = |id: &str, figures, status| Sample {
            id: id.into(),
            alias: "a \"b\"".into(),
            kind: Kind::Server,
            status,
            process: None,
            figures,
        };
        let samples =
            [sample("1", Some(Figures::new([7; CELLS])), Status::Running), sample("2", None, Status::Stopped)];
        let text = exposition(&samples);
        let labels = |id: &str| format!("id=\"{id}\",alias=\"a \\\"b\\\"\",role=\"server\"");
        for line in [
            format!("nodepass_instance_up{{{}}} 1", labels("1")),
            format!("nodepass_instance_up{{{}}} 0", labels("2")),
            format!("nodepass_users{{{},protocol=\"tcp\"}} 7", labels("1")),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(&format!("nodepass_users{{{}", labels("2"))), "{text}");
    }
}
