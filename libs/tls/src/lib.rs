//! How processes prove themselves to each other below the call: both sides show a certificate of the installation's
//! authority. Certificates turn while processes run: the files are looked at every few seconds, and connections that are
//! made from then on use the new ones.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock, Weak},
    time::Duration,
};

use anyhow::Context;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What a folder holds, in the names of a `kubernetes.io/tls` secret with its authority.
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The files are looked at so often.
const LOOK: Duration = Duration::from_secs(5);

/// A process's certificate and key, and the authority that it believes. Clones share what is read anew.
#[derive(Clone)]
pub struct Identity(Arc<RwLock<Configs>>);

#[derive(Clone)]
struct Configs {
    /// Asks the other side for a certificate.
    peers: Arc<ServerConfig>,
    /// Asks for none.
    all: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads `tls.crt`, `tls.key` and `ca.crt` from a folder, and again whenever they change. Files that do not hold
    /// together then are told in the log, and what was good is kept.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let files = files(folder)?;
        let identity = Self(Arc::new(RwLock::new(Configs::of(&files)?)));
        tokio::spawn(keep(Arc::downgrade(&identity.0), folder.to_owned(), files));
        Ok(identity)
    }

    /// Accepts who shows a certificate of the authority.
    pub fn acceptor_for_peers(&self) -> Acceptor {
        Acceptor { identity: self.clone(), peers_only: true }
    }

    /// Accepts everybody, for callers who prove themselves otherwise.
    pub fn acceptor_for_all(&self) -> Acceptor {
        Acceptor { identity: self.clone(), peers_only: false }
    }

    /// Proves itself over an open connection to who must be `host`.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> std::io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        TlsConnector::from(self.now().client).connect(name, stream).await
    }

    fn now(&self) -> Configs {
        self.0.read().expect("no holder panics").clone()
    }
}

/// Takes part in handshakes.
#[derive(Clone)]
pub struct Acceptor {
    identity: Identity,
    peers_only: bool,
}

impl Acceptor {
    /// One handshake, with the certificate of the moment.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        let Configs { peers, all, .. } = self.identity.now();
        TlsAcceptor::from(if self.peers_only { peers } else { all }).accept(stream).await
    }
}

type Files = [Vec<u8>; 3];

fn files(folder: &Path) -> anyhow::Result<Files> {
    let [certificate, key, authority] = FILES.map(|name| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
    });
    Ok([certificate?, key?, authority?])
}

async fn keep(identity: Weak<RwLock<Configs>>, folder: PathBuf, mut last: Files) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(identity) = identity.upgrade() else { return };
        let Ok(files) = files(&folder) else { continue };
        if files == last {
            continue;
        }
        match Configs::of(&files) {
            Ok(configs) => {
                *identity.write().expect("no holder panics") = configs;
                tracing::info!("the certificate was read anew");
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "the new certificate does not hold"),
        }
        last = files;
    }
}

impl Configs {
    fn of([certificate, key, authority]: &Files) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(certificate).context("tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("tls.key")?;
        let mut roots = RootCertStore::empty();
        for root in certificates(authority).context("ca.crt")? {
            roots.add(root).context("ca.crt")?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let mut peers =
            server(&provider)?.with_client_cert_verifier(verifier).with_single_cert(chain.clone(), key.clone_key())?;
        let mut all = server(&provider)?.with_no_client_auth().with_single_cert(chain.clone(), key.clone_key())?;
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut client = client.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        for protocols in [&mut peers.alpn_protocols, &mut all.alpn_protocols, &mut client.alpn_protocols] {
            *protocols = vec![b"h2".to_vec()];
        }
        Ok(Self { peers: peers.into(), all: all.into(), client: client.into() })
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate");
    Ok(certificates)
}

fn server(
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    Ok(ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?)
}
