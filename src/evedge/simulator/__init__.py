"""Recharge points as Modbus TCP servers, with cars that charge."""
