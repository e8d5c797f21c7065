"""Network services: who provides them, what they are asked for, what hosts are told of them."""
