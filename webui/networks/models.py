"""Networks, and the reservations that make a double allocation impossible."""

from __future__ import annotations

from django.db import models

from webui.core.fields import new_id


class Network(models.Model):
    """One bridge on one host, with an IPv4 subnet and perhaps an IPv6 one."""

    id = models.CharField(primary_key=True, max_length=64, default=new_id)
    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="networks")
    name = models.CharField(max_length=128)
    subnet = models.CharField(max_length=43)  # "172.30.0.0/16"
    gateway = models.CharField(max_length=39)
    subnet6 = models.CharField(max_length=43, blank=True, default="")  # "" = no IPv6
    gateway6 = models.CharField(max_length=39, blank=True, default="")
    internal = models.BooleanField(default=False)
    is_default = models.BooleanField(default=False)  # made by Slipway, never removed
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "name"], name="network_name_per_host")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ipv6(self) -> bool:
        return bool(self.subnet6)


class Endpoint(models.Model):
    """One container's attachment to one network; its address is reserved here."""

    container = models.ForeignKey(
        "containers.Container", on_delete=models.CASCADE, related_name="endpoints"
    )
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="endpoints")
    address = models.CharField(max_length=39)
    address6 = models.CharField(max_length=39, blank=True, default="")
    mac_address = models.CharField(max_length=17)
    aliases = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "address"], name="address_once_per_network"),
            models.UniqueConstraint(
                fields=["network", "address6"],
                condition=~models.Q(address6=""),
                name="address6_once_per_network",
            ),
            models.UniqueConstraint(fields=["container", "network"], name="endpoint_once"),
        ]

    def __str__(self) -> str:
        return f"{self.address} on {self.network}"


class PortReservation(models.Model):
    """One published port of a host. Overlap of 0.0.0.0 with one address is checked in the service."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE)
    container = models.ForeignKey(
        "containers.Container", on_delete=models.CASCADE, related_name="ports"
    )
    protocol = models.CharField(max_length=4)
    host_ip = models.CharField(max_length=39)
    host_port = models.PositiveIntegerField()
    container_port = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["host", "protocol", "host_ip", "host_port"], name="port_once_per_host"
            )
        ]

    def __str__(self) -> str:
        where = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{where}:{self.host_port}->{self.container_port}/{self.protocol}"
