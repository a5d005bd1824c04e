"""What the source ``qemu-tls`` prints of hosts without certificates and of one that encrypts migrations.

The certificates were made with openssl for ``kvm-large``; their keys were thrown away.
"""

from __future__ import annotations

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBcTCCASOgAwIBAgIUYcB/82nwQaUXS7mG4+q3ymqP4iAwBQYDK2VwMC4xEDAO
BgNVBAoMB0V4YW1wbGUxGjAYBgNVBAMMEVFFTVUgbWlncmF0aW9uIENBMB4XDTI2
MTEyOTEzMDExMFoXDTQ2MTEyNDEzMDExMFowLjEQMA4GA1UECgwHRXhhbXBsZTEa
MBgGA1UEAwwRUUVNVSBtaWdyYXRpb24gQ0EwKjAFBgMrZXADIQDVw8+7ilDLCMwZ
8nLgxxcKGd9s4ZamVQWZWO0AYWnpuKNTMFEwHQYDVR0OBBYEFKNHPsuiRuQqo/u5
UoNcc2eabU8GMB8GA1UdIwQYMBaAFKNHPsuiRuQqo/u5UoNcc2eabU8GMA8GA1Ud
EwEB/wQFMAMBAf8wBQYDK2VwA0EAI0nKE9DEumlDK6SlTFdEpJJfDy20hQZ++31k
yv4AJWJCUlQvKBA9IRztalo39BYpggnsGkWzAd1eegeJ8oaUAg==
-----END CERTIFICATE-----
"""
SERVER = """\
-----BEGIN CERTIFICATE-----
MIIBlzCCAUmgAwIBAgIUbqO+c14M9OZtCTj75efUxxyBmiMwBQYDK2VwMC4xEDAO
BgNVBAoMB0V4YW1wbGUxGjAYBgNVBAMMEVFFTVUgbWlncmF0aW9uIENBMB4XDTI2
MTEyOTEzMDExMFoXDTQ2MDgxNjEzMDExMFowFDESMBAGA1UEAwwJa3ZtLWxhcmdl
MCowBQYDK2VwAyEAjpIvkktYBk0/mVJdVKnWqfqWxjl1Iagn5Q10jS2bxAmjgZIw
gY8wOAYDVR0RBDEwL4IVa3ZtLWxhcmdlLmV4YW1wbGUuY29thwTAAAIphxAgAQ24
AAAAAAAAAAAAAABBMBMGA1UdJQQMMAoGCCsGAQUFBwMBMB0GA1UdDgQWBBSqEo3k
84wOFzjBdyv0InybNrrgXzAfBgNVHSMEGDAWgBSjRz7LokbkKqP7uVKDXHNnmm1P
BjAFBgMrZXADQQDXW1WcQ5Swsile8snIejfywa8DZpwTQxWrqPWw3oRwDL1xpOfh
13+ygcEahxcuxamurSd73hDlvc7tDGnzaJII
-----END CERTIFICATE-----
"""
CLIENT = """\
-----BEGIN CERTIFICATE-----
MIIBWzCCAQ2gAwIBAgIUbqO+c14M9OZtCTj75efUxxyBmiQwBQYDK2VwMC4xEDAO
BgNVBAoMB0V4YW1wbGUxGjAYBgNVBAMMEVFFTVUgbWlncmF0aW9uIENBMB4XDTI2
MTEyOTEzMDExMFoXDTQ2MDgxNjEzMDExMFowFDESMBAGA1UEAwwJa3ZtLWxhcmdl
MCowBQYDK2VwAyEA6gCaFM8tP3XbBcBPYHHaRUg8PybF91WucnvkPUHfOSGjVzBV
MBMGA1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBTB4fnebRCf/7uw1ZwwSYZ/
BjpY9DAfBgNVHSMEGDAWgBSjRz7LokbkKqP7uVKDXHNnmm1PBjAFBgMrZXADQQB2
eJmGMAaN1jhzAFZQT7VZsuNS3ju7QhUUroWrVqX6QlhAbK71ZwkyCBr2bvXjIDlJ
gb0pm4e8QtMTcGDK2gcM
-----END CERTIFICATE-----
"""

PLAIN = "libvirt:yes\n"


def encrypting() -> str:
    """A host whose qemu.conf names another folder, beside one that is there by default."""
    return (
        "libvirt:yes\n"
        'set:default_tls_x509_cert_dir = "/etc/pki/qemu"\n'
        'set:migrate_tls_x509_cert_dir = "/srv/pki/migration"\n'
        "set:migrate_tls_force = 1\n"
        "folder:/etc/pki/qemu\nfile:ca-cert.pem\n"
        f"{CLIENT}"
        "folder:/srv/pki/migration\nfile:ca-cert.pem\n"
        f"{AUTHORITY}file:server-cert.pem\n{SERVER}file:server-key.pem\n"
        f"file:client-cert.pem\n{CLIENT}file:client-key.pem\n"
    )
