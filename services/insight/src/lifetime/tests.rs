use super::*;

/// The CDNOW sample until 1997-09-30, with what published parameters and the most likely ones give each customer, computed
/// apart from this project.
const CDNOW: &str = include_str!("../../vectors/lifetime_cdnow.tsv");
/// Fader, Hardie and Lee 2005, table 2, and Fader and Hardie 2013.
const PUBLISHED: PurchaseModel = PurchaseModel { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };
const PUBLISHED_SPEND: SpendModel = SpendModel { p: 6.25, q: 3.74, gamma: 15.44 };

struct Row {
    history: History,
    spending: Spending,
    published: [f64; 4],
    likeliest: [f64; 3],
}

fn cdnow() -> Vec<Row> {
    let rows = CDNOW.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let n: Vec<f64> = line.split('\t').map(|number| number.parse().unwrap()).collect();
        Row {
            history: History { repeats: n[1], last: n[2] / WEEK, seen: n[3] / WEEK },
            spending: Spending { repeats: n[1], mean: n[4] },
            published: [n[5], n[6], n[7], n[8]],
            likeliest: [n[9], n[10], n[11]],
        }
    });
    rows.collect()
}

fn close(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * expected.abs()
}

#[test]
fn published_parameters_give_every_customer_of_cdnow_the_published_closed_forms() {
    for row in cdnow() {
        let [alive, in_39, in_52, spend] = row.published;
        let got = [
            PUBLISHED.probability_alive(&row.history),
            PUBLISHED.expected_purchases(&row.history, 39.0),
            PUBLISHED.expected_purchases(&row.history, 52.0),
            PUBLISHED_SPEND.expected_spend(&row.spending).unwrap(),
        ];
        for (got, expected) in got.into_iter().zip([alive, in_39, in_52, spend]) {
            assert!(close(got, expected, 1e-9), "{got} instead of {expected}");
        }
    }
}

#[test]
fn cdnow_has_the_published_maximum() {
    let rows = cdnow();
    let fit = PurchaseModel::fit(&rows.iter().map(|row| row.history).collect::<Vec<_>>()).unwrap();
    let expected = [0.242_594_522_43, 4.413_602_019_01, 0.792_922_017_23, 2.425_906_776_83];
    let errors = [0.012_557_378_1, 0.378_224_059_9, 0.185_733_821_4, 0.705_414_259_8];
    for i in 0..4 {
        assert!(close(fit.parameters[i], expected[i], 1e-8), "{:?}", fit.parameters);
        assert!(close(fit.standard_errors[i], errors[i], 1e-4), "{:?}", fit.standard_errors);
    }
    assert!((fit.log_likelihood + 9_582.429_206_673_93).abs() < 1e-6, "{}", fit.log_likelihood);
    let spend = SpendModel::fit(&rows.iter().map(|row| row.spending).collect::<Vec<_>>()).unwrap();
    for (i, (expected, error)) in
        [(6.249_572_271, 1.190_055_336), (3.744_224_667, 0.290_133_065), (15.443_520_963, 4.159_422_752)]
            .into_iter()
            .enumerate()
    {
        assert!(close(spend.parameters[i], expected, 1e-8), "{:?}", spend.parameters);
        assert!(close(spend.standard_errors[i], error, 1e-4), "{:?}", spend.standard_errors);
    }
    assert!((spend.log_likelihood + 4_055.917_694_801_875).abs() < 1e-6, "{}", spend.log_likelihood);

    let (model, spend) = (PurchaseModel::of(&fit.parameters), SpendModel::of(&spend.parameters));
    for row in rows {
        let [alive, in_39, mean] = row.likeliest;
        assert!(close(model.probability_alive(&row.history), alive, 1e-9));
        assert!(close(model.expected_purchases(&row.history, 39.0), in_39, 1e-9));
        assert!(close(spend.expected_spend(&row.spending).unwrap(), mean, 1e-9));
    }
}

#[test]
fn the_first_customer_has_the_published_lifetime_value() {
    let row = &cdnow()[0];
    let spend = PUBLISHED_SPEND.expected_spend(&row.spending).unwrap();
    let worth = value(&PUBLISHED, &row.history, spend, 12, 0.01);
    assert!(close(worth, 36.285_701_554_662_15, 1e-9), "{worth}");
    assert!(close(PUBLISHED.log_likelihood(&row.history), -9.458_473_557_488_498, 1e-12));
    // From the walkthrough of another package: 26 repeats, seen for 31 weeks.
    let often = History { repeats: 26.0, last: 30.86, seen: 31.0 };
    assert!(close(PUBLISHED.expected_purchases(&often, 52.0), 25.758_195_936_483_514, 1e-9));
    assert!(close(PUBLISHED.probability_alive(&often), 0.968_915_649_717_525_1, 1e-9));
}

/// The expectation as an integral over the probability of leaving, by the midpoint rule in a variable that tames both ends.
fn integrated(model: &PurchaseModel, history: &History, weeks: f64) -> f64 {
    let PurchaseModel { r, alpha, a, b } = *model;
    let (x, seen, n) = (history.repeats, history.seen, 200_000);
    let beta = statrs::function::beta::ln_beta(a, b + x);
    let part = |i: i32| {
        // p = u³ / (u³ + v³) with v = 1 - u.
        let u = (f64::from(i) + 0.5) / f64::from(n);
        let (near, far) = (u.powi(3), (1.0 - u).powi(3));
        let p = near / (near + far);
        let width = 3.0 * (u * (1.0 - u) / (near + far)).powi(2) / f64::from(n);
        let density = ((a - 1.0) * p.ln() + (b + x - 1.0) * (far / (near + far)).ln() - beta).exp();
        let expected = -(-(r + x) * (p * weeks / (alpha + seen)).ln_1p()).exp_m1() / p;
        density * expected * width
    };
    (0..n).map(part).sum::<f64>() * model.probability_alive(history)
}

#[test]
fn at_every_edge_the_expectation_is_what_the_integral_says() {
    let histories = [(0.0, 0.0, 0.0), (0.0, 0.0, 40.0), (1.0, 3.0, 3.0), (7.0, 20.0, 39.0), (400.0, 500.0, 501.0)];
    for (a, b) in [(1.0, 2.4), (1.0 + 1e-9, 2.4), (0.999_999, 2.4), (0.8, 2.4), (2.0, 1.5), (5.0, 0.7), (0.6, 0.4)] {
        for (repeats, last, seen) in histories {
            for weeks in [0.5, 52.0, 520.0] {
                let (model, history) = (PurchaseModel { r: 0.25, alpha: 4.4, a, b }, History { repeats, last, seen });
                let (got, expected) = (model.expected_purchases(&history, weeks), integrated(&model, &history, weeks));
                assert!(close(got, expected, 1e-4), "a {a} b {b} x {repeats} T {seen} t {weeks}: {got} {expected}");
                assert!((0.0..=1.0).contains(&model.probability_alive(&history)));
            }
        }
    }
    assert_eq!(PUBLISHED.expected_purchases(&History { repeats: 3.0, last: 1.0, seen: 2.0 }, 0.0), 0.0);
}

#[test]
fn what_has_no_maximum_has_no_model() {
    let history = |repeats, last, seen| History { repeats, last, seen };
    assert!(PurchaseModel::fit(&[]).is_none());
    assert!(PurchaseModel::fit(&[history(0.0, 0.0, 10.0); 50]).is_none(), "nobody came back");
    assert!(PurchaseModel::fit(&[history(3.0, 9.0, 10.0); 50]).is_none(), "all are alike");
    assert!(SpendModel::fit(&[Spending { repeats: 2.0, mean: 10.0 }; 50]).is_none(), "all spend the same");
    assert!(SpendModel::fit(&[Spending { repeats: 0.0, mean: 0.0 }; 50]).is_none());
    let model = SpendModel { p: 6.0, q: 0.9, gamma: 15.0 };
    assert!(model.expected_spend(&Spending { repeats: 0.0, mean: 0.0 }).is_none());
    assert!(model.expected_spend(&Spending { repeats: 1.0, mean: 10.0 }).is_some());
}

#[test]
fn published_parameters_give_the_probabilities_computed_apart_from_this_project() {
    let probabilities = PUBLISHED.probabilities(39.0, 11);
    let expected = [
        0.573_786_352_096_009_4,
        0.199_395_280_835_911_46,
        0.085_429_759_539_060_76,
        0.045_860_353_847_999_726,
        0.027_671_449_335_782_198,
        0.017_965_493_866_579_044,
        0.012_268_976_715_554_538,
        0.008_695_428_804_155_261,
        0.006_340_308_309_256_064,
        0.004_728_021_641_420_501,
        0.003_590_429_540_189_673_4,
    ];
    for (got, expected) in probabilities.iter().zip(expected) {
        assert!(close(*got, expected, 1e-9), "{got} instead of {expected}");
    }
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12 && probabilities[11] > 0.0);
}
