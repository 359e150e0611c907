//! Maximum likelihood for models with a few positive parameters.

use nalgebra::{DMatrix, DVector};

/// More steps than any fit took; who does not arrive has no maximum.
const STEPS: usize = 300;
/// A parameter out of these bounds is on its way to infinity or nothing.
const BOUNDS: std::ops::Range<f64> = 1e-5..1e7;

/// A maximum of a likelihood.
#[derive(Clone, Copy)]
pub struct Fit<const N: usize> {
    pub parameters: [f64; N],
    /// From the inverse of the observed information.
    pub standard_errors: [f64; N],
    pub log_likelihood: f64,
}

/// Maximises a log-likelihood, given with its gradient, over positive parameters: damped Newton steps in their
/// logarithms (Levenberg and Marquardt), with the second derivatives from differences of the gradient. `None` when
/// there is no maximum within reason.
pub fn maximise<const N: usize>(start: [f64; N], likelihood: impl Fn(&[f64; N]) -> (f64, [f64; N])) -> Option<Fit<N>> {
    let in_logs = |logs: &DVector<f64>| {
        let parameters = std::array::from_fn(|i| logs[i].exp());
        let (value, gradient) = likelihood(&parameters);
        (value, DVector::from_fn(N, |i, _| gradient[i] * parameters[i]))
    };
    let mut logs = DVector::from_fn(N, |i, _| start[i].ln());
    let (mut value, mut gradient) = in_logs(&logs);
    let mut damping = 1e-3;
    for _ in 0..STEPS {
        let information = -hessian(&logs, 1e-4, |logs| in_logs(logs).1);
        let scale = information.diagonal().abs().max().max(1e-12);
        let step = (information + DMatrix::identity(N, N) * (damping * scale)).cholesky().map(|c| c.solve(&gradient));
        let step = step.filter(|step| step.amax() < 3.0);
        let tried = step.as_ref().map(|step| (&logs + step, in_logs(&(&logs + step))));
        // Close to the top the value says nothing any more, but the slope does.
        let level = 1e-12 * value.abs();
        let higher = |there: f64, slope: &DVector<f64>| {
            there > value + level || (there > value - level && slope.amax() < gradient.amax())
        };
        match tried.filter(|(_, (there, slope))| higher(*there, slope)) {
            Some((there, (better, slope))) => {
                let moved = (&there - &logs).amax();
                (logs, value, gradient) = (there, better, slope);
                damping = if damping < 1e-9 { 0.0 } else { damping / 10.0 };
                if moved < 1e-11 {
                    break;
                }
            }
            // As near as numbers can tell.
            None if step.is_some_and(|step| step.amax() < 1e-7) => break,
            None => damping = (damping * 10.0).max(1e-9),
        }
        if damping > 1e12 {
            return None;
        }
    }
    let parameters: [f64; N] = std::array::from_fn(|i| logs[i].exp());
    let settled = gradient.amax() <= 1e-6 * value.abs().max(1.0);
    let bounded = parameters.iter().all(|parameter| BOUNDS.contains(parameter));
    if !settled || !bounded || !value.is_finite() {
        return None;
    }
    let slopes = |at: &DVector<f64>| DVector::from_row_slice(&likelihood(&std::array::from_fn(|i| at[i])).1);
    let covariance = (-hessian(&DVector::from_row_slice(&parameters), 0.0, slopes)).try_inverse()?;
    let standard_errors = std::array::from_fn(|i| covariance[(i, i)].sqrt());
    Some(Fit { parameters, standard_errors, log_likelihood: value })
}

/// The derivatives of a gradient by central differences, made symmetric. A step of 0 is a part of each parameter.
fn hessian(at: &DVector<f64>, step: f64, gradient: impl Fn(&DVector<f64>) -> DVector<f64>) -> DMatrix<f64> {
    let n = at.len();
    let mut hessian = DMatrix::zeros(n, n);
    for i in 0..n {
        let h = if step == 0.0 { at[i] * 1e-4 } else { step };
        let (mut above, mut below) = (at.clone(), at.clone());
        above[i] += h;
        below[i] -= h;
        hessian.set_column(i, &((gradient(&above) - gradient(&below)) / (2.0 * h)));
    }
    (&hessian + hessian.transpose()) / 2.0
}
