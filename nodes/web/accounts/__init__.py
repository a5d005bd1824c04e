"""Logins: what allauth is told about passwords, second factors, sessions and the identity provider."""
