"""A certificate authority of a test's own, and a server's certificate that it signed, for 127.0.0.1 and localhost."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Certificates(NamedTuple):
    """The authority that clients trust, and what a server shows."""

    authority: Path
    server: Path
    key: Path


def make_certificates(folder: Path, owner: tuple[int, int] | None = None) -> Certificates:
    """Write them into this folder. `owner`: the user and group of the server, the only one who may read its key."""
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
    )
    authority = _begun(issuer, issuer, root).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    authority = authority.add_extension(_key_usage(), True)
    made.authority.write_bytes(authority.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    shown = _begun(subject, issuer, key).add_extension(names, False)
    shown = shown.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), False)
    made.server.write_bytes(shown.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    made.key.chmod(0o600)
    if owner is not None:
        for path in made:
            os.chown(path, *owner)
    return made


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begun = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return begun.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + 9 * DAY)


def _key_usage() -> x509.KeyUsage:
    names = ("digital_signature", "key_cert_sign", "crl_sign")
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return x509.KeyUsage(
        **dict.fromkeys(names, True), **dict.fromkeys(others, False), encipher_only=False, decipher_only=False
    )
